"""`DATA/models/index.jsonl`: one line per upload, for people and scripts without a coordinator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from fleet_server.content import full_disk_told


def place(model: str, mode: str, sha256: str) -> str:
    """Where an artifact is kept, relative to the data folder."""
    return f"models/{model}_{mode}/{sha256}/bundle.tar.zst"


class Index:
    def __init__(self, data: Path) -> None:
        self._path = data / "models" / "index.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)

    async def note(self, line: Mapping[str, object]) -> None:
        await asyncio.to_thread(self._append, json.dumps(line, sort_keys=True) + "\n")

    def _append(self, line: str) -> None:
        with full_disk_told(), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
