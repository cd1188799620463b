"""What a training script needs of fleet: where things are, what to report, when to stop.

Two lines make any script a good citizen, and every call does nothing outside fleet::

    import fleet_trainer as ft
    job = ft.job()

The built-in trainer uses this very object.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fleet_trainer.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from pydantic import JsonValue

PROGRESS_SECONDS = 0.2  # a step may take a millisecond; a person sees five updates a second
CHECKPOINT_SECONDS = 60.0
EVENT_BYTES = 4096  # an O_APPEND write up to this size is never torn or mixed with another
CHECKPOINT_FILE = "checkpoint.pt"


class Job:
    """One attempt, as the FLEET_* variables describe it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.seed = int(environ.get("FLEET_SEED", "0"))
        self.device = environ.get("FLEET_DEVICE") or "cpu"
        self.ranks = int(environ.get("WORLD_SIZE") or 1)
        self.rank = int(environ.get("RANK") or 0) if self.ranks > 1 else 0
        self.local_rank = int(environ.get("LOCAL_RANK") or 0)
        self.attempt = environ.get("FLEET_ATTEMPT", "")
        self.spec_path = self._path("FLEET_JOB_SPEC")
        self.data = self._path("FLEET_DATA")
        self.output_dir = self._path("FLEET_OUTPUT_DIR") or Path()
        self.checkpoint_dir = self._path("FLEET_CHECKPOINT_DIR")
        self.should_stop = False
        # Of several ranks, only the first one reports and writes.
        self._events = self._path("FLEET_EVENTS") if self.rank == 0 else None
        self._checkpoint_seconds = float(environ.get("FLEET_CHECKPOINT_S") or CHECKPOINT_SECONDS)
        self._saved_at = time.monotonic()
        self._progress_at = -math.inf

    def _path(self, name: str) -> Path | None:
        value = self._environ.get(name)
        return Path(value) if value else None

    @property
    def hyper(self) -> dict[str, JsonValue]:
        """The manifest's `hyper` table as written; empty outside fleet."""
        if self.spec_path is None:
            return {}
        hyper = json.loads(self.spec_path.read_text(encoding="utf-8")).get("hyper", {})
        return hyper if isinstance(hyper, dict) else {}

    def listen(self) -> None:
        """From now on SIGTERM (Windows: Ctrl-Break) sets `should_stop`. Call from the main thread."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.should_stop = True

        signal.signal(signal.SIGTERM, stop)
        if sys.platform == "win32":
            signal.signal(signal.SIGBREAK, stop)

    def progress(self, step: int, total: int) -> None:
        now = time.monotonic()
        if step >= total or now - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = now
            self._emit({"type": "progress", "step": step, "total": total})

    def log(self, step: int, **metrics: float) -> None:
        """One point per named curve. A value that is not finite is told as none: JSON has no NaN."""
        for name, value in metrics.items():
            told, now = float(value) if math.isfinite(value) else None, round(time.time(), 3)
            self._emit({"type": "metric", "name": name, "step": step, "value": told, "at": now})

    def phase(self, name: str) -> None:
        self._emit({"type": "phase", "name": name})

    @property
    def checkpoint_due(self) -> bool:
        keeps = self.checkpoint_dir is not None and self.rank == 0
        return keeps and time.monotonic() - self._saved_at >= self._checkpoint_seconds

    def save(self, state: Mapping[str, object], step: int) -> None:
        """Replace the checkpoint with `state` (tensors and plain values), whole or not at all."""
        if self.checkpoint_dir is None or self.rank > 0:
            return
        import torch

        whole = io.BytesIO()  # torch writing to a full disk says `unexpected pos`, a file says which disk
        torch.save(dict(state), whole)
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        write_whole(self.checkpoint_dir / CHECKPOINT_FILE, whole.getbuffer())
        self._saved_at = time.monotonic()
        self._emit({"type": "checkpoint", "step": step})

    def load(self) -> dict[str, object] | None:
        """The last checkpoint, on the CPU; None when there is none or it cannot be read."""
        path = self.checkpoint_dir / CHECKPOINT_FILE if self.checkpoint_dir else None
        if path is None or not path.exists():
            return None
        import pickle

        import torch

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            say(f"the checkpoint cannot be read, starting over: {error}")
            return None
        return state if isinstance(state, dict) else None

    def stop(self) -> NoReturn:
        """Leave after a checkpoint: the job goes back to the queue and no attempt is counted."""
        raise SystemExit(Stopped.exit_code)

    def finish(self, **metrics: float) -> None:
        """Report a script's final metrics, the first one being the headline."""
        rows = {
            name: {"value": value, "low": None, "high": None, "unit": ""} for name, value in metrics.items()
        }
        if self._events is not None:
            path = self.output_dir / "metrics.json"
            path.write_text(json.dumps({"metrics": rows}, indent=1) + "\n", encoding="utf-8")

    def _emit(self, event: dict[str, JsonValue]) -> None:
        if self._events is None:
            return
        line = (json.dumps(event) + "\n").encode()
        if len(line) > EVENT_BYTES:
            raise ValueError(f"an event of {len(line)} bytes is over the limit of {EVENT_BYTES}")
        # Reporting must never end a training: a full disk or a removed folder costs the curve only.
        with contextlib.suppress(OSError), self._events.open("ab", buffering=0) as file:
            file.write(line)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """All of it, safe on the disk, or what was there before. OSError names the file."""
    partial = path.with_name(f"{path.name}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


@cache
def job() -> Job:
    """This process's attempt; outside fleet, one that reports nowhere and is never told to stop."""
    current = Job(os.environ)
    if current.spec_path is not None:
        current.listen()
    return current


def say(line: str) -> None:
    """A line of the log, out at once: an operator follows it live. Of several ranks, the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
