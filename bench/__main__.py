"""`python -m bench NAME [OPTION…]`: a bench is a module here with `measure(*options)`; each figure is one line.

What several benches share is in `rig/`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FRAME = {"__init__", "__main__", "figure"}


def benches() -> list[str]:
    return sorted({file.stem for file in Path(__file__).parent.glob("*.py")} - FRAME)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in benches():
        print(f"Name one bench: {', '.join(benches()) or 'there is none yet'}.", file=sys.stderr)
        return 2
    for figure in importlib.import_module(f"bench.{arguments[0]}").measure(*arguments[1:]):
        print(figure.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
