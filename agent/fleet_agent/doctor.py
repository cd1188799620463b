"""`fleet-agent doctor`: what this machine would advertise, and what is wrong with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from fleet_agent.errors import AgentError, CoordinatorAway
from fleet_agent.hardware import Findings, detect
from fleet_agent.settings import Settings
from fleet_agent.uplink import Refused, Unreachable, Uplink
from fleet_protocol.capability import Capability
from fleet_protocol.local import find_token


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """Lines to print, and the error that decides the exit code, if any."""

    lines: tuple[str, ...]
    error: AgentError | None


async def diagnose(settings: Settings) -> Diagnosis:
    findings = await detect(settings)
    error = await _coordinator(settings)
    if error is None and not findings.capability.models and not findings.capability.commands:
        error = AgentError("This machine can run no job.")
    return Diagnosis(tuple(_describe(settings, findings)), error)


async def _coordinator(settings: Settings) -> AgentError | None:
    uplink = Uplink(settings.server, lambda: find_token(settings.server, "agent"))
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


def _describe(settings: Settings, findings: Findings) -> Iterator[str]:
    yield from (f"{label:<9} {value}" for label, value in _facts(settings, findings.capability))
    yield ""
    yield from (f"! {complaint}" for complaint in findings.complaints)


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
