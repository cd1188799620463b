"""`python -m bench NAME`: a bench is a module here with `measure() -> Iterator[Figure]`; each figure is one line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FRAME = {"__init__", "__main__", "figure"}


def benches() -> list[str]:
    return sorted({file.stem for file in Path(__file__).parent.glob("*.py")} - FRAME)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in benches():
        print(f"Name one bench: {', '.join(benches()) or 'there is none yet'}.", file=sys.stderr)
        return 2
    for figure in importlib.import_module(f"bench.{arguments[0]}").measure():
        print(figure.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
