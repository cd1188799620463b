"""One line on where the product's lines are. A report and not a limit: the budget per function is the limit."""

from __future__ import annotations

import statistics
from collections import Counter

from tests.architecture.source import PRODUCT, TESTS, height

if __name__ == "__main__":
    parts = Counter[str]()
    for source in PRODUCT:
        parts[source.part] += len(source.lines)
    heights = sorted(height(function) for source in PRODUCT for function in source.functions())
    print(
        f"{parts.total():,} product lines ({', '.join(f'{part} {lines:,}' for part, lines in parts.items())}),"
        f" {sum(len(source.lines) for source in TESTS):,} of tests; a function's median is"
        f" {statistics.median(heights):.0f} lines, nine in ten within {heights[len(heights) * 9 // 10]}"
    )
