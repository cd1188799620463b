"""Draws the pictures of the dashboard anew, from the recorded fleet of its tests:

python docs/images/dashboard.py
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.tui.tour import pictures  # noqa: E402  (the tests are found from the top of the tree)


async def draw() -> None:
    async for name, drawn in pictures():
        (HERE / f"{name}.svg").write_text(drawn, encoding="utf-8")


asyncio.run(draw())
