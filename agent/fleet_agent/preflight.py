"""What would keep a service from ever starting, found before anything is made: whose riddles these otherwise become."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import fleet_agent
from fleet_agent.errors import AgentError

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # by ProtectHome and PrivateTmp
MOST_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Reader:
    """An account as the file system sees it; None where it is not there yet, so that it is everybody else."""

    name: str
    uid: int | None = None
    groups: frozenset[int] = frozenset()

    def may(self, status: os.stat_result, bits: int) -> bool:
        """`bits` as for others: 4 to read, 1 to pass through or run."""
        if self.uid == status.st_uid:
            bits <<= 6
        elif status.st_gid in self.groups:
            bits <<= 3
        return status.st_mode & bits == bits


def needed(python: str) -> tuple[Path, ...]:
    """What a service reads to start: both interpreters, their environment, and this program."""
    interpreters = [Path(sys.executable), *([Path(python)] if os.sep in python else [])]
    return (*interpreters, Path(sys.prefix), Path(fleet_agent.__file__).parent)


def out_of_reach(paths: Sequence[Path], reader: Reader) -> Iterator[str]:
    """Why `reader`'s service could not use each of `paths`, in a sentence with what to do."""
    mend = "put fleet where all accounts may read, such as /opt/fleet, or use --service user"
    told: set[Path | str] = set()
    for path in _followed(paths):
        hidden = next((place for place in HIDDEN if path.is_relative_to(place)), None)
        place = hidden or _barrier(path, reader)
        if place is None or place in told:
            continue
        told.add(place)
        if hidden:
            yield f"{path} is in {hidden}, which no system service sees: {mend}."
        else:
            yield f"{place} is closed to the account {reader.name}, which has to reach {path}: {mend}."


def _followed(paths: Sequence[Path]) -> Iterator[Path]:
    """Each path, and where it leads: an environment's interpreter is a link to one that may be in a home."""
    for path in paths:
        yield from dict.fromkeys((path.absolute(), path.resolve()))


def _barrier(path: Path, reader: Reader) -> Path | None:
    """The first of the folders down to `path`, or itself, that `reader` may not use."""
    for place in (*reversed(path.parents), path):
        with contextlib.suppress(OSError):
            status = place.stat()
            wanted = 5 if place == path else 1
            if not reader.may(status, wanted if not stat.S_ISREG(status.st_mode) else 4):
                return place
    return None


def check_clock(here: datetime, there: datetime) -> None:
    """AgentError where the clocks differ so much that certificates and tokens would seem expired or not begun."""
    skew = here - there
    if abs(skew) > MOST_SKEW:
        late = "ahead of" if skew > timedelta() else "behind"
        raise AgentError(
            f"clock_skew: this machine's clock ({here:%Y-%m-%d %H:%M:%S} UTC) is {_words(abs(skew))} {late} the "
            f"coordinator's ({there:%Y-%m-%d %H:%M:%S} UTC). Set it, such as by `timedatectl set-ntp true`, and repeat."
        )


def _words(span: timedelta) -> str:
    return f"{span.days} days" if span.days else f"{span.seconds // 60} minutes"
