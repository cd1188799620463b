"""Draws `dashboard.svg` anew, from the recorded fleet of the dashboard's tests:

python docs/images/dashboard.py
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.tui.driver import picture  # noqa: E402  (the tests are found from the top of the tree)

# Textual names fonts on a far server, which a page must not fetch; the family that follows them will do.
drawn = re.sub(r"@font-face \{.*?\}\s*", "", asyncio.run(picture()), flags=re.DOTALL)
(HERE / "dashboard.svg").write_text(drawn, encoding="utf-8")
