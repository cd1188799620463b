"""What a measurement reports: a number, its unit, and the peer or limit it was measured beside."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number. `against` is the peer's or limit's own figure, taken in the same run."""

    figure: str
    value: float
    unit: str
    against: Figure | None = None

    @property
    def ratio(self) -> float | None:
        if self.against is None or not self.against.value:
            return None
        return self.value / self.against.value

    def line(self) -> str:
        """One JSON object. Four significant digits: more would claim a precision no shared machine has."""
        peer = self.against and f"{self.against.figure}: {self.against.value:.4g} {self.against.unit}"
        return json.dumps(
            {
                "figure": self.figure,
                "value": _rounded(self.value),
                "unit": self.unit,
                "against": peer,
                "ratio": _rounded(self.ratio),
            }
        )


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")
