"""`fleet-agent doctor`: what this machine would advertise, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fleet_agent import locks
from fleet_agent.credential import Enrolment, bearer, pin_for
from fleet_agent.errors import AgentError, CoordinatorAway
from fleet_agent.hardware import GIB, detect
from fleet_agent.install import installed, is_running
from fleet_agent.process import confinement
from fleet_agent.settings import Settings
from fleet_agent.uplink import Refused, Unreachable, connect
from fleet_protocol.capability import Capability

ROOM_GIB = 1.0
_READABLE = (
    "a malicious program of theirs could read the secret: a system service on Linux 6.2 or newer prevents it"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """Lines to print, and the error that decides the exit code, if any."""

    lines: tuple[str, ...]
    error: AgentError | None


async def diagnose(settings: Settings) -> Diagnosis:
    findings = await detect(settings)
    faults = (*findings.faults, *state_faults(settings.state))
    error = await _coordinator(settings)
    if error is None and faults:
        error = AgentError("Not all is well: see the lines that begin with `!`.")
    known = (*_facts(settings, findings.capability), *_membership(settings))
    facts = (f"{label:<9} {value}" for label, value in known)
    notes = (f"- {note}" for note in (*findings.notes, *_notes(settings.state)))
    return Diagnosis((*facts, "", *(f"! {fault}" for fault in faults), *notes), error)


def state_faults(state: Path) -> Iterator[str]:
    """What is wrong with the state folder; it is not made here."""
    there = next(folder for folder in (state.absolute(), *state.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield f"The state folder {state} cannot be written; name another by --state."
    elif (free := shutil.disk_usage(there).free / GIB) < ROOM_GIB:
        yield f"The disk of the state folder {state} has {free:.1f} GiB free; make room, or name another by --state."


def _notes(state: Path) -> Iterator[str]:
    if os.access(state / "lock", os.R_OK | os.W_OK) and locks.is_held(state / "lock"):
        yield f"An agent runs on {state} now."
    kept = state / "kept"
    if os.access(kept, os.R_OK) and (number := len(list(kept.iterdir()))):
        yield f"{number} attempt(s) that no coordinator took are in {kept}: look at them, then delete them."


async def _coordinator(settings: Settings) -> AgentError | None:
    uplink = connect(settings.server, pin_for(settings), settings.state, bearer(settings))
    try:
        await uplink.check()
    except Unreachable as error:
        return CoordinatorAway(f"{error}. Start the coordinator, or name another by --server.")
    except Refused as refusal:
        token = (
            "it takes no such token; set FLEET_TOKEN to one of an agent"
            if refusal.problem.status == 401
            else None
        )
        return AgentError(f"{settings.server} refuses this agent: {token or refusal}")
    finally:
        await uplink.close()
    return None


def _membership(settings: Settings) -> Iterator[tuple[str, str]]:
    """The credential, the service, and whether a job could take the credential."""
    own = Enrolment.read(settings.state)
    if own is None:
        yield "enrolled", "no: an agent of the coordinator's own account, or by FLEET_TOKEN"
    else:
        pinned = (
            f"certificate pinned ({own.pin[:12]}…)"
            if own.pin
            else "certificate trusted as this system trusts"
        )
        age = own.days_old(datetime.now(UTC))
        yield "enrolled", f"{own.name} at {own.server}, {pinned}"
        yield "secret", f"{own.credential_id}, {age} days old, in {settings.state / 'credential'}"
        reach = "are kept from reading the secret (Landlock)" if confinement(settings.state) else _READABLE
        yield "jobs", f"run as this agent's account, and {reach}"
    services = [
        f"{kind} service, {'running' if is_running(plan) else 'not running'}" for kind, plan in installed()
    ]
    yield "service", "; ".join(services) or "none"


def _facts(settings: Settings, capability: Capability) -> Iterator[tuple[str, str]]:
    yield "name", settings.name
    yield "hostname", capability.hostname
    yield "system", capability.os
    yield "cpu", f"{capability.cpu or 'unknown'}, {capability.cores} cores"
    yield "memory", f"{capability.ram_gib:.1f} GiB"
    for gpu in capability.gpus:
        yield "gpu", f"{gpu.name}, {gpu.vram_gib:.1f} GiB, {gpu.kind}, driver {gpu.driver or 'unknown'}"
    yield "python", f"{settings.python} ({capability.python or 'unknown'})"
    yield "torch", capability.torch or "not found"
    yield "models", ", ".join(capability.models) or "none"
    yield "programs", "the manifest's too" if capability.commands else "fleet's own only (--allow-commands)"
    yield "jobs", f"{capability.max_jobs} at once"
    dirty = " with changes" if capability.git_dirty else ""
    yield "commit", f"{capability.git_commit or 'unknown'}{dirty}"
    yield "data", str(settings.data or "none")
