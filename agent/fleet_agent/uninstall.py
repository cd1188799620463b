"""`fleet-agent uninstall`: the service and the credential go; what was trained and not handed in stays."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from fleet_agent import locks
from fleet_agent.credential import Enrolment, forget
from fleet_agent.errors import AgentError
from fleet_agent.install import remove
from fleet_agent.services import Kind
from fleet_agent.services.plan import ServicePlan

OWED = ("attempts", "kept")


def uninstall(state: Path, plans: list[tuple[Kind, ServicePlan]]) -> Iterator[str]:
    """What was done, and what is left to do, a line each. AgentError where the right to is missing."""
    enrolment = Enrolment.read(state)
    for kind, plan in plans:
        remove(plan)
        yield f"removed the {kind} service"
    if (state / "lock").exists() and locks.is_held(state / "lock"):
        raise AgentError(f"An agent runs on {state} still; end it, then repeat this.")
    if (state / "worker").exists():
        yield from _clear(state)
    else:
        yield f"there is no state folder of an agent at {state}"
    if enrolment is not None:
        yield (
            f"the coordinator at {enrolment.server} still knows {enrolment.name}; an operator makes it forget: "
            f"fleet workers revoke {enrolment.name}"
        )


def _clear(state: Path) -> Iterator[str]:
    owed = [path for name in OWED if (state / name).is_dir() for path in (state / name).iterdir()]
    if owed:
        forget(state)
        for name in ("blobs", "datasets"):
            shutil.rmtree(state / name, ignore_errors=True)
        yield f"removed the credential; kept {len(owed)} attempt(s) that were not handed in, in {state}: an agent that "
        yield "is enrolled anew with this --state hands in what the coordinator still wants"
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(state)
    yield f"removed {state}; nothing in it was owed to anybody"
