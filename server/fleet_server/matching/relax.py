"""The smallest single change of the manifest that would let some worker take a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import floor

from fleet_protocol.jobs import Needs, Relaxation
from fleet_protocol.manifest import HostPolicy
from fleet_server.matching.fits import Demand, Offer, can_ever


@dataclass(frozen=True, slots=True)
class Change:
    """One key with another value: the needs and the policy as they would be, and how much is given up."""

    key: str
    required: str
    suggested: str
    cost: float
    """0 to 1: the share of a number that is given up; above 1: a rule is given up."""
    needs: Needs
    policy: HostPolicy


def relaxation(demand: Demand, offers: Sequence[Offer]) -> Relaxation | None:
    """The cheapest change that makes some worker able to take it; None where one is able already or none is enough."""
    if any(not can_ever(demand, offer) for offer in offers):
        return None
    found = [(change, offer) for offer in offers for change in _changes(demand, offer)]
    for change, offer in sorted(found, key=lambda pair: (pair[0].cost, pair[1].name, pair[0].key)):
        if not can_ever(replace(demand, needs=change.needs), replace(offer, policy=change.policy)):
            return Relaxation(
                worker=offer.name,
                key=change.key,
                required=change.required,
                suggested=change.suggested,
                message=f"{change.key} {change.required} -> {change.suggested} would let {offer.name} take it",
            )
    return None


def _changes(demand: Demand, offer: Offer) -> Iterator[Change]:
    """Every single change that speaks to this worker."""
    needs, has, policy, name = demand.needs, offer.capability, offer.policy, offer.name

    def number(key: str, required: float, offered: float) -> Iterator[Change]:
        if offered < required:
            # Rounded down: what a person types in must still be enough.
            enough = int(offered) if isinstance(required, int) else floor(offered * 100) / 100
            changed = needs.model_copy(update={key: enough})
            yield Change(key, f"{required:g}", f"{enough:.12g}", 1 - offered / required, changed, policy)

    yield from number("min_ram_gib", needs.min_ram_gib, has.ram_gib)
    yield from number("min_cores", needs.min_cores, has.cores)
    yield from number("min_vram_gib", needs.min_vram_gib, has.vram_gib)
    able = sum(gpu.vram_gib >= needs.min_vram_gib for gpu in has.cuda_gpus)
    if able:
        yield from number("gpus", needs.gpus, able)
    if needs.require_cuda:
        optional = needs.model_copy(update={"require_cuda": False, "prefer_cuda": True})
        yield Change("require_cuda", "true", "false with prefer_cuda = true", 2.0, optional, policy)
    if needs.allowed_hosts and name not in needs.allowed_hosts:
        wider = needs.model_copy(update={"allowed_hosts": (*needs.allowed_hosts, name)})
        yield Change(
            "allowed_hosts", _list(needs.allowed_hosts), _list(wider.allowed_hosts), 1.5, wider, policy
        )
    if name in needs.denied_hosts:
        fewer = needs.model_copy(update={"denied_hosts": tuple(h for h in needs.denied_hosts if h != name)})
        yield Change("denied_hosts", _list(needs.denied_hosts), _list(fewer.denied_hosts), 1.6, fewer, policy)
    if (rule := policy.refuses(demand.model)) is not None:
        yield Change(
            f"hosts.{name}", rule, f"allow {demand.model}", 1.7, needs, _allowing(policy, demand.model)
        )


def _allowing(policy: HostPolicy, model: str) -> HostPolicy:
    allow = [*policy.allow_jobs, model] if policy.allow_jobs else []
    return policy.model_copy(
        update={"allow_jobs": allow, "deny_jobs": [denied for denied in policy.deny_jobs if denied != model]}
    )


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"
