"""Who fits whom, with the numbers, and who is chosen: decided from values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_protocol.capability import Capability, Gpu
from fleet_protocol.ids import JobId, Sha256, WorkerId
from fleet_protocol.jobs import Needs
from fleet_protocol.manifest import HostPolicy
from fleet_server.matching.assign import Candidate, assign, heads_wanted
from fleet_server.matching.fits import Demand, Offer, can_ever, fits, why_waiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PREFER_WAIT = timedelta(minutes=5)


def cuda(vram_gib: float) -> Gpu:
    return Gpu(kind="cuda", name="card", vram_gib=vram_gib)


def offer(
    name: str = "box", policy: HostPolicy | None = None, *, state: dict[str, Any] | None = None, **has: Any
):
    capability = Capability(
        **{"hostname": name, "os": "Linux", "cores": 8, "ram_gib": 32, "models": ("gbt", "mlp"), **has}
    )
    return Offer(WorkerId(name), name, capability, policy or HostPolicy(), **(state or {}))


def demand(model: str = "gbt", **needs: Any) -> Demand:
    return Demand(model, Needs(**needs))


BUSY = ((demand(min_cores=0, min_ram_gib=0), 1),)


@pytest.mark.parametrize(
    ("asked", "offered", "code", "required", "has"),
    [
        (demand(require_cuda=True), offer(), "no_cuda", "a CUDA GPU", "none"),
        (
            demand(require_cuda=True),
            offer(gpus=(Gpu(kind="mps", name="m", vram_gib=64),)),
            "no_cuda",
            "a CUDA GPU",
            "none",
        ),
        (demand(min_vram_gib=8), offer(gpus=(cuda(6),)), "too_little_vram", "8 GiB VRAM", "6 GiB VRAM"),
        (demand(min_vram_gib=8), offer(), "too_little_vram", "8 GiB VRAM", "0 GiB VRAM"),
        (
            demand(require_cuda=True, prefer_cuda=True, min_vram_gib=8),
            offer(gpus=(cuda(6), cuda(7.5))),
            "too_little_vram",
            "8 GiB VRAM",
            "7.5 GiB VRAM",
        ),
        (demand(min_ram_gib=64), offer(), "too_little_ram", "64 GiB RAM", "32 GiB RAM"),
        (demand(min_cores=16), offer(), "too_few_cores", "16 cores", "8 cores"),
        (demand(allowed_hosts=("a", "b")), offer(), "not_an_allowed_host", "a, b", "box"),
        (demand(denied_hosts=("box", "c")), offer(), "denied_host", "not box, c", "box"),
        (
            demand(),
            offer(policy=HostPolicy(allow_jobs=["mlp"])),
            "host_policy",
            "gbt",
            "allow_jobs = ['mlp']",
        ),
        (demand(), offer(policy=HostPolicy(deny_jobs=["gbt"])), "host_policy", "gbt", "deny_jobs = ['gbt']"),
        (
            demand(),
            offer(policy=HostPolicy(allow_jobs=["gbt"], deny_jobs=["gbt"])),
            "host_policy",
            "gbt",
            "deny_jobs = ['gbt']",
        ),
        (demand("cnn"), offer(), "model_not_offered", "cnn", "gbt, mlp"),
        (demand(), offer(data=False), "no_data", "data of the worker's own", "none"),
        (demand(), offer(state={"held": BUSY}), "busy", "fewer than 1 running", "1"),
        (demand(), offer(state={"draining": True}), "draining", "takes new work", "draining"),
        (demand(), offer(state={"live": False}), "not_live", "heard within a minute", "silent"),
    ],
)
def test_each_refusal_has_its_numbers(asked: Demand, offered: Offer, code: str, required: str, has: str):
    (refusal,) = fits(asked, offered)
    assert (refusal.code, refusal.required, refusal.offered) == (code, required, has)
    assert refusal.message


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        (demand(require_cuda=True, min_vram_gib=8), offer(gpus=(cuda(6), cuda(8)))),
        (demand(prefer_cuda=True, min_vram_gib=8), offer()),
        (demand(prefer_cuda=True, min_vram_gib=8), offer(gpus=(cuda(6),))),
        (demand(min_ram_gib=32, min_cores=8), offer()),
        (demand(allowed_hosts=("box",), denied_hosts=("other",)), offer()),
        (demand(), offer(policy=HostPolicy(allow_jobs=["gbt"], deny_jobs=["mlp"]))),
        (demand(), offer(max_jobs=2, state={"held": BUSY})),
    ],
)
def test_what_fits(asked: Demand, offered: Offer):
    assert fits(asked, offered) == ()


def test_every_reason_is_told_at_once():
    offered = offer(state={"held": BUSY, "live": False}, ram_gib=1, cores=1)
    codes = [
        r.code for r in fits(demand("cnn", require_cuda=True, min_cores=2, denied_hosts=("box",)), offered)
    ]
    assert codes == [
        "denied_host", "model_not_offered", "not_live", "busy", "no_cuda", "too_little_ram", "too_few_cores",
    ]  # fmt: skip
    assert [r.code for r in can_ever(demand(), offer(state={"held": BUSY, "live": False}))] == []


def test_a_job_that_brings_its_data_or_its_program_asks_for_no_data_of_the_workers():
    bare = offer(data=False, datasets=True, commands=True)
    assert not fits(replace(demand(), own_dataset=True), bare)
    assert not fits(replace(demand("mine"), own_program=True), bare)


def test_why_a_job_waits():
    assert why_waiting(demand(), []) == "no worker has said hello yet"
    assert why_waiting(demand(), [offer()]) is None
    assert why_waiting(demand(), [offer(state={"held": BUSY})]) == "waits for a worker: box: busy with 1"
    never = why_waiting(
        demand(require_cuda=True, min_ram_gib=64), [offer("a"), offer("b", state={"live": False})]
    )
    assert never == (
        "no worker can take it: a: needs a CUDA GPU, has none, needs 64 GiB RAM, has 32; "
        "b: needs a CUDA GPU, has none, needs 64 GiB RAM, has 32"
    )
    many = why_waiting(demand(min_cores=99), [offer(str(number)) for number in range(9)])
    assert str(many).endswith("; and 5 more")


def test_equal_demands_have_one_digest():
    assert demand(min_cores=2).digest == demand(min_cores=2).digest
    others = [
        demand(),
        demand("mlp"),
        demand(min_cores=2),
        demand(denied_hosts=("x",)),
        demand(prefer_cuda=True),
    ]
    assert len({other.digest for other in others}) == len(others)


def candidate(
    name: str = "j", asked: Demand | None = None, priority: int = 0, age: float = 0, avoid: str | None = None
):
    queued = NOW - timedelta(seconds=age)
    return Candidate(
        JobId(name), asked or demand(), priority, queued, PREFER_WAIT, WorkerId(avoid) if avoid else None
    )


def pair(candidates: list[Candidate], waiting: list[Offer], everybody: list[Offer] | None = None):
    return assign(candidates, waiting, everybody or waiting, NOW)


def test_the_order_of_jobs_is_priority_then_age_then_id():
    jobs = [
        candidate("d", age=9),
        candidate("c", age=5),
        candidate("b", age=5),
        candidate("a", priority=-1, age=99),
        candidate("e", priority=1),
    ]
    offers = [offer(f"box-{number}") for number in range(5)]
    assert [job for job, _ in pair(jobs, offers)] == ["e", "d", "b", "c", "a"]


def test_the_worker_is_chosen_by_host_priority_then_the_tightest_fit_then_the_name():
    favoured = offer("zz", HostPolicy(priority=1), ram_gib=256, cores=64)
    gpu, large = offer("gpu", gpus=(cuda(8),)), offer("large", ram_gib=64)
    small, twin = offer("small", ram_gib=8), offer("twin", ram_gib=8)
    waiting = [large, gpu, twin, favoured, small]
    chosen = [worker for _, worker in pair([candidate(str(n)) for n in range(5)], waiting)]
    assert chosen == ["zz", "small", "twin", "large", "gpu"]


def test_who_holds_the_data_set_comes_before_a_tighter_fit_and_after_the_hosts_priority():
    data, other = Sha256("a" * 64), Sha256("b" * 64)
    job = replace(candidate(), dataset=data)
    tight, holder = offer("tight", ram_gib=8), offer("holder", ram_gib=64, state={"holds": frozenset({data})})
    favoured = offer("favoured", HostPolicy(priority=1), ram_gib=256)
    full = offer("full", ram_gib=2, state={"holds": frozenset({data, other})})
    assert pair([job], [tight, holder, full]) == [("j", "holder")], "and never where it does not fit"
    assert pair([job], [tight, holder, favoured]) == [("j", "favoured")]
    assert pair([replace(job, dataset=other)], [tight, holder]) == [("j", "tight")]
    assert pair([candidate()], [tight, holder]) == [("j", "tight")]
    two = [replace(candidate("a"), dataset=other), replace(candidate("b"), dataset=data)]
    assert pair(two, [tight, holder]) == [("a", "tight"), ("b", "holder")], "equal demands, other data"


def test_each_worker_gets_one_and_nothing_blocks_what_is_behind_it():
    jobs = [candidate("gpu", demand(require_cuda=True), priority=9), candidate("a"), candidate("b")]
    assert pair(jobs, [offer()]) == [("a", "box")]


def test_a_job_avoids_its_last_worker_while_another_could_take_it():
    one, two = offer("one"), offer("two")
    avoiding = candidate(avoid="one")
    assert pair([avoiding], [one], [one, two]) == []
    assert pair([avoiding], [one, two]) == [("j", "two")]
    assert pair([avoiding, candidate("k")], [one], [one, two]) == [("k", "one")], "and it blocks nobody"


@pytest.mark.parametrize(
    "other",
    [
        offer("two", state={"live": False}),
        offer("two", state={"draining": True}),
        offer("two", state={"held": BUSY}),
        offer("two", ram_gib=1),
        offer("two", HostPolicy(deny_jobs=["gbt"])),
    ],
)
def test_avoiding_is_never_a_bar(other: Offer):
    one = offer("one")
    assert pair([candidate(avoid="one")], [one], [one, other]) == [("j", "one")]
    assert pair([candidate(avoid="one")], [one]) == [("j", "one")]


def test_cuda_is_preferred_for_a_while():
    cpu, gpu = offer("cpu"), offer("gpu", gpus=(cuda(8),), state={"held": BUSY})
    asked = demand(prefer_cuda=True, min_vram_gib=4)
    assert pair([candidate(asked=asked, age=299)], [cpu], [cpu, gpu]) == []
    assert pair([candidate(asked=asked, age=301)], [cpu], [cpu, gpu]) == [("j", "cpu")]
    assert pair([candidate(asked=asked)], [cpu]) == [("j", "cpu")]


@pytest.mark.parametrize(
    "gpu",
    [
        offer("gpu", gpus=(cuda(2),)),  # too small to be the CUDA option
        offer("gpu", gpus=(cuda(8),), state={"live": False}),
        offer("gpu", gpus=(cuda(8),), state={"draining": True}),
        offer("gpu", HostPolicy(deny_jobs=["gbt"]), gpus=(cuda(8),)),
    ],
)
def test_cuda_that_cannot_be_had_is_not_waited_for(gpu: Offer):
    cpu = offer("cpu")
    asked = demand(prefer_cuda=True, min_vram_gib=4)
    assert pair([candidate(asked=asked)], [cpu], [cpu, gpu]) == [("j", "cpu")]


def test_as_many_heads_are_looked_at_as_could_be_handed_out():
    demands = {"gbt": demand(), "cnn": demand("cnn"), "big": demand(min_ram_gib=64)}
    waiting = [offer("a"), offer("b", ram_gib=128)]
    assert heads_wanted(demands, waiting) == {"gbt": 2, "big": 1}


OFFERS = st.builds(
    lambda name, running, live, vram, ram: offer(
        name, gpus=(cuda(vram),) if vram else (), ram_gib=ram, state={"held": BUSY * running, "live": live}
    ),
    st.sampled_from("abcdef"),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([0, 4, 16]),
    st.sampled_from([2, 8, 64]),
)
CANDIDATES = st.builds(
    lambda name, priority, age, avoid, prefer, require, vram, ram: candidate(
        name,
        demand(prefer_cuda=prefer, require_cuda=require, min_vram_gib=vram, min_ram_gib=ram),
        priority,
        age,
        avoid,
    ),
    st.text("0123456789abcdef", min_size=4, max_size=4),
    st.integers(-1, 1),
    st.sampled_from([0, 100, 400]),
    st.sampled_from([None, *"abcdef"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 4, 8]),
    st.sampled_from([1, 4, 32]),
)


@given(
    st.lists(CANDIDATES, unique_by=lambda job: job.job_id, max_size=8),
    st.lists(OFFERS, unique_by=lambda offer: offer.worker_id, min_size=1, max_size=6),
    st.data(),
)
def test_an_assignment_is_fair_and_never_wrong(
    jobs: list[Candidate], everybody: list[Offer], data: st.DataObject
):
    waiting = data.draw(st.lists(st.sampled_from(everybody), unique_by=lambda offer: offer.worker_id))
    pairs = pair(jobs, waiting, everybody)
    wanted, offers = {job.job_id: job for job in jobs}, {offer.worker_id: offer for offer in waiting}
    assert len({job for job, _ in pairs}) == len({worker for _, worker in pairs}) == len(pairs)
    assert all(not fits(wanted[job].demand, offers[worker]) for job, worker in pairs)
    if len(waiting) == len(everybody):  # everybody waits: whatever fits somebody free is handed out
        left = {worker: has for worker, has in offers.items() if worker not in {w for _, w in pairs}}
        for job in wanted.keys() - {job for job, _ in pairs}:
            able = [has for has in left.values() if not fits(wanted[job].demand, has)]
            held = [
                has
                for has in able
                if wanted[job].avoid == has.worker_id or wanted[job].demand.needs.prefer_cuda
            ]
            assert able == held, "only a preference may hold a pair back"
