"""Draws `dashboard.svg` anew, from the recorded fleet of the dashboard's tests:

python docs/images/dashboard.py
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.tui.driver import picture  # noqa: E402  (the tests are found from the top of the tree)

(HERE / "dashboard.svg").write_text(asyncio.run(picture()), encoding="utf-8")
