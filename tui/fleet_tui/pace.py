"""How often what arrives is drawn: seldom where each drawing costs dear, or where nobody looks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Seconds between two drawings of what the coordinator tells; keys are answered at once at any pace."""

    usual: float = 0.1
    focused: bool = True
    """The terminal says whether it has the focus; one that does not say has it."""

    @property
    def seconds(self) -> float:
        return self.usual if self.focused else max(self.usual, 1.0)


def pace(*, slow: bool = False, environment: Mapping[str, str] = os.environ) -> Pace:
    """`slow`: four times in five seconds; over SSH four times a second."""
    if slow:
        return Pace(1.25)
    return Pace(0.25 if environment.get("SSH_CONNECTION") else 0.1)
