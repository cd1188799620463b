"""The one predicate of what runs where. Claim, plan and explain all call `fits`, so explain cannot lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fleet_protocol.capability import Capability
from fleet_protocol.ids import Sha256, WorkerId
from fleet_protocol.jobs import JobSpec, Needs, Refusal
from fleet_protocol.manifest import HostPolicy


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job asks for: everything that `fits` looks at, and nothing else."""

    model: str
    needs: Needs
    own_program: bool = False
    """The model is a program of the manifest, not one of the built-in trainer."""
    own_dataset: bool = False
    """The data are the manifest's, not those that the worker has anyway."""

    @property
    def digest(self) -> str:
        """Equal for jobs with equal demands, so that `fits` is asked once for all of them."""
        asked = [self.model, self.needs.model_dump(), self.own_program, self.own_dataset]
        text = json.dumps(asked, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Offer:
    """A worker as the matching sees it: what it has, what its host allows, what it is doing."""

    worker_id: WorkerId
    name: str
    capability: Capability
    policy: HostPolicy
    live: bool = True
    draining: bool = False
    held: tuple[tuple[Demand, int], ...] = ()
    """What it is training already, by kind and number; reserved until it ends."""
    holds: frozenset[Sha256] = frozenset()
    """Blobs that it need not fetch any more, as it says when it asks for work."""

    @cached_property
    def cores(self) -> int:
        return self.capability.cores - sum(n * demand.needs.min_cores for demand, n in self.held)

    @cached_property
    def ram_gib(self) -> float:
        return self.capability.ram_gib - sum(n * demand.needs.min_ram_gib for demand, n in self.held)

    @cached_property
    def free_vram(self) -> tuple[float, ...]:
        """VRAM of each CUDA device that nothing holds, in GiB, ascending. Held jobs took the tightest that fit."""
        free = sorted(gpu.vram_gib for gpu in self.capability.cuda_gpus)
        takers = [(demand.needs, n) for demand, n in self.held if uses_cuda(demand.needs, self.capability)]
        takers.sort(key=lambda taker: -taker[0].min_vram_gib)
        for needs in (needs for needs, n in takers for _ in range(n)):
            for vram in [vram for vram in free if vram >= needs.min_vram_gib][: needs.gpus]:
                free.remove(vram)
        return tuple(free)

    @cached_property
    def idle(self) -> Offer:
        """The same worker if it were live, taking work, and doing nothing."""
        return replace(self, live=True, draining=False, held=())

    def holding(self, demand: Demand) -> Offer:
        return replace(self, held=(*self.held, (demand, 1)))


def demand_of(spec: JobSpec) -> Demand:
    return Demand(spec.model, spec.needs, spec.program is not None, spec.dataset is not None)


def fits(demand: Demand, offer: Offer) -> tuple[Refusal, ...]:
    """Every reason why this worker does not take such a job now, with the numbers; empty when it does."""
    return (*_not_allowed(demand, offer), *_unavailable(offer), *_lacks(demand, offer))


def can_ever(demand: Demand, offer: Offer) -> tuple[Refusal, ...]:
    """As `fits`, but as if the worker were live and idle: what no waiting will change."""
    return fits(demand, offer.idle)


def uses_cuda(needs: Needs, has: Capability) -> bool:
    """Whether such a job would take GPUs on this machine."""
    if not needs.require_cuda and not needs.prefer_cuda:
        return False
    return sum(gpu.vram_gib >= needs.min_vram_gib for gpu in has.cuda_gpus) >= max(needs.gpus, 1)


def why_waiting(demand: Demand, offers: Sequence[Offer]) -> str | None:
    """One sentence why a pending job waits, or None when a worker could take it right now."""
    if not offers:
        return "no worker has said hello yet"
    able = [offer for offer in offers if not can_ever(demand, offer)]
    if not able:
        return f"no worker can take it: {_each(demand, offers)}"
    if any(not fits(demand, offer) for offer in able):
        return None
    reasons = _some(able, lambda offer: fits(demand, offer)[0].message)
    return f"waits for a worker: {reasons}"


def _each(demand: Demand, offers: Sequence[Offer]) -> str:
    ordered = sorted(offers, key=lambda offer: (not offer.live, offer.name))
    return _some(ordered, lambda offer: ", ".join(reason.message for reason in can_ever(demand, offer)))


def _some(offers: Sequence[Offer], say: Callable[[Offer], str], most: int = 4) -> str:
    rest = f"; and {len(offers) - most} more" if len(offers) > most else ""
    return "; ".join(f"{offer.name}: {say(offer)}" for offer in offers[:most]) + rest


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
    if demand.own_program:
        if not offer.capability.commands:
            yield _refuse(
                "no_commands", "runs commands", "does not", "does not run the manifest's own programs"
            )
    elif demand.model not in offer.capability.models:
        installed = ", ".join(offer.capability.models) or "none"
        yield _refuse("model_not_offered", demand.model, installed, f"does not offer model {demand.model}")
    elif not demand.own_dataset and not offer.capability.data:
        message = "has no data of its own, and the job names no dataset"
        yield _refuse("no_data", "data of the worker's own", "none", message)
    if demand.own_dataset and not offer.capability.datasets:
        message = "does not fetch the manifest's data sets"
        yield _refuse("no_datasets", "fetches data sets", "does not", message)


def _lacks(demand: Demand, offer: Offer) -> Iterator[Refusal]:
    yield from _lacks_cuda(demand.needs, offer)
    if offer.ram_gib < demand.needs.min_ram_gib:
        yield _short(
            "too_little_ram", "GiB RAM", demand.needs.min_ram_gib, offer.ram_gib, offer.capability.ram_gib
        )
    if offer.cores < demand.needs.min_cores:
        yield _short("too_few_cores", "cores", demand.needs.min_cores, offer.cores, offer.capability.cores)


def _lacks_cuda(needs: Needs, offer: Offer) -> Iterator[Refusal]:
    """VRAM is a hard need, save where CUDA is only preferred: then it qualifies only the CUDA option."""
    if needs.require_cuda and not offer.capability.cuda_gpus:
        yield _refuse("no_cuda", "a CUDA GPU", "none", "needs a CUDA GPU, has none")
        return
    if needs.prefer_cuda and not needs.require_cuda:
        return
    total = offer.capability.vram_gib
    if needs.min_vram_gib > total:
        yield _short("too_little_vram", "GiB VRAM", needs.min_vram_gib, total, total)
    elif needs.require_cuda:
        free = [vram for vram in offer.free_vram if vram >= needs.min_vram_gib]
        if len(free) < needs.gpus:
            able = sum(gpu.vram_gib >= needs.min_vram_gib for gpu in offer.capability.cuda_gpus)
            yield _short("too_few_gpus", "GPUs", needs.gpus, len(free), able)


def _unavailable(offer: Offer) -> Iterator[Refusal]:
    if not offer.live:
        yield _refuse("not_live", "heard within a minute", "silent", "not heard from")
    if offer.draining:
        yield _refuse("draining", "takes new work", "draining", "draining")
    count, most = sum(n for _, n in offer.held), offer.capability.max_jobs
    if count >= most:
        yield _refuse("busy", f"fewer than {most} running", str(count), f"busy with {count}")


def _refuse(code: str, required: str, offered: str, message: str) -> Refusal:
    return Refusal(code=code, required=required, offered=offered, message=message)


def _short(code: str, unit: str, required: float, offered: float, total: float) -> Refusal:
    """Too little of something; where the machine has more, the rest is taken by what it trains."""
    of = f" free of {total:g}" if total != offered else ""
    message = f"needs {required:g} {unit}, has {offered:g}{of}"
    return _refuse(code, f"{required:g} {unit}", f"{offered:g} {unit}", message)
