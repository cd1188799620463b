"""The one predicate of what runs where. Claim, plan and explain all call `fits`, so explain cannot lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet_protocol.capability import Capability
from fleet_protocol.ids import WorkerId
from fleet_protocol.jobs import JobSpec, Needs, Refusal
from fleet_protocol.manifest import HostPolicy


@dataclass(frozen=True, slots=True)
class Offer:
    """A worker as the matching sees it: what it has, what its host allows, what it is doing."""

    worker_id: WorkerId
    name: str
    capability: Capability
    policy: HostPolicy
    live: bool = True
    draining: bool = False
    running: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job asks for: everything that `fits` looks at, and nothing else."""

    model: str
    needs: Needs

    @property
    def digest(self) -> str:
        """Equal for jobs with equal demands, so that `fits` is asked once for all of them."""
        text = json.dumps([self.model, self.needs.model_dump()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def demand_of(spec: JobSpec) -> Demand:
    return Demand(spec.model, spec.needs)


def fits(demand: Demand, offer: Offer) -> tuple[Refusal, ...]:
    """Every reason why this worker does not take such a job now, with the numbers; empty when it does."""
    return (*_unable(demand, offer), *_unavailable(offer))


def can_ever(demand: Demand, offer: Offer) -> tuple[Refusal, ...]:
    """As `fits`, but as if the worker were live and idle: what no waiting will change."""
    return tuple(_unable(demand, offer))


def why_waiting(demand: Demand, offers: Sequence[Offer]) -> str | None:
    """One sentence why a pending job waits, or None when a worker could take it right now."""
    if not offers:
        return "no worker has said hello yet"
    able = [offer for offer in offers if not can_ever(demand, offer)]
    if not able:
        return f"no worker can take it: {_each(demand, offers)}"
    if any(not fits(demand, offer) for offer in able):
        return None
    reasons = [f"{offer.name}: {fits(demand, offer)[0].message}" for offer in able]
    return f"waits for a worker: {_some(reasons)}"


def _each(demand: Demand, offers: Sequence[Offer]) -> str:
    ordered = sorted(offers, key=lambda offer: (not offer.live, offer.name))
    return _some(
        [f"{offer.name}: {', '.join(r.message for r in can_ever(demand, offer))}" for offer in ordered]
    )


def _some(reasons: Sequence[str], most: int = 4) -> str:
    rest = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + rest


def _unable(demand: Demand, offer: Offer) -> Iterator[Refusal]:
    yield from _not_allowed(demand, offer)
    needs, has = demand.needs, offer.capability
    if demand.model not in has.models:
        installed = ", ".join(has.models) or "none"
        yield _refuse("model_not_offered", demand.model, installed, f"does not offer model {demand.model}")
    yield from _lacks_cuda(needs, has)
    if has.ram_gib < needs.min_ram_gib:
        yield _short("too_little_ram", "GiB RAM", needs.min_ram_gib, has.ram_gib)
    if has.cores < needs.min_cores:
        yield _short("too_few_cores", "cores", needs.min_cores, has.cores)


def _not_allowed(demand: Demand, offer: Offer) -> Iterator[Refusal]:
    needs, name = demand.needs, offer.name
    if needs.allowed_hosts and name not in needs.allowed_hosts:
        allowed = ", ".join(needs.allowed_hosts)
        yield _refuse("not_an_allowed_host", allowed, name, f"not one of allowed_hosts ({allowed})")
    if name in needs.denied_hosts:
        denied = ", ".join(needs.denied_hosts)
        yield _refuse("denied_host", f"not {denied}", name, "named in denied_hosts")
    rule = offer.policy.refuses(demand.model)
    if rule is not None:
        yield _refuse("host_policy", demand.model, rule, f"its policy does not allow {demand.model} ({rule})")


def _lacks_cuda(needs: Needs, has: Capability) -> Iterator[Refusal]:
    """VRAM is a hard need, save where CUDA is only preferred: then it qualifies only the CUDA option."""
    if needs.require_cuda and not has.cuda_gpus:
        yield _refuse("no_cuda", "a CUDA GPU", "none", "needs a CUDA GPU, has none")
        return
    hard = needs.require_cuda or not needs.prefer_cuda
    if hard and has.vram_gib < needs.min_vram_gib:
        yield _short("too_little_vram", "GiB VRAM", needs.min_vram_gib, has.vram_gib)


def _unavailable(offer: Offer) -> Iterator[Refusal]:
    if not offer.live:
        yield _refuse("not_live", "heard within a minute", "silent", "not heard from")
    if offer.draining:
        yield _refuse("draining", "takes new work", "draining", "draining")
    if offer.running >= offer.capability.max_jobs:
        yield _refuse(
            "busy",
            f"fewer than {offer.capability.max_jobs} running",
            str(offer.running),
            f"busy with {offer.running}",
        )


def has_cuda_for(needs: Needs, has: Capability) -> bool:
    """Whether this worker is the CUDA option of a job that prefers one."""
    return bool(has.cuda_gpus) and has.vram_gib >= needs.min_vram_gib


def _refuse(code: str, required: str, offered: str, message: str) -> Refusal:
    return Refusal(code=code, required=required, offered=offered, message=message)


def _short(code: str, unit: str, required: float, offered: float) -> Refusal:
    message = f"needs {required:g} {unit}, has {offered:g}"
    return _refuse(code, f"{required:g} {unit}", f"{offered:g} {unit}", message)
