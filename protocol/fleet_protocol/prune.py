"""What is stored and nothing refers to any more."""

from __future__ import annotations

from fleet_protocol.wire import Answer, Request


class PruneRequest(Request):
    dry_run: bool = True
    """Only tell what would be deleted."""


class Unused(Answer):
    """Stored bytes that nothing refers to."""

    kind: str
    """`blob`, `artifact`, `upload` (begun and never finished), `log` or `metrics`."""
    id: str
    """A SHA-256; of a log and of metrics, the attempt."""
    size_bytes: int


class PruneAnswer(Answer):
    """What would be deleted or, unless it was a dry run, was deleted."""

    dry_run: bool
    items: tuple[Unused, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)
