"""What explain says is what a claim does, and what it suggests is enough: for fleets drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from fleet_protocol.capability import Capability
from fleet_protocol.ids import JobId, WorkerId
from fleet_protocol.jobs import Explanation, Relaxation
from fleet_protocol.plan import ReloadRequest
from fleet_protocol.workers import ClaimAnswer, HelloRequest
from fleet_server.database import Transaction
from fleet_server.matching.loop import Waiting
from fleet_server.tables import metadata
from tests.properties.inline import Stage, drive
from tests.server.coordinator import CAPABILITY, FakeClock, job, manifest

NAMES = ["ant", "bee", "cat"]
MODELS = ["gbt", "mlp"]
SIZES = [0.5, 4.0, 7.654321, 15.5234567, 31.0000001, 64.0]
"""Gibibytes, some with more digits than anybody prints."""
PREFER_WAIT = 300

cards = st.lists(st.sampled_from(SIZES), max_size=3)
machines = st.fixed_dictionaries(
    {
        "cores": st.integers(1, 4),
        "ram_gib": st.sampled_from(SIZES),
        "gpus": cards.map(lambda sizes: [{"kind": "cuda", "name": "card", "vram_gib": s} for s in sizes]),
        "models": st.sampled_from([["gbt"], ["gbt", "mlp"], ["mlp"]]),
        "max_jobs": st.integers(1, 2),
    }
)
some_models = st.lists(st.sampled_from(MODELS), unique=True, max_size=2)
policies = st.fixed_dictionaries(
    {"priority": st.integers(0, 1), "allow_jobs": some_models, "deny_jobs": some_models}
)
hosts = st.lists(st.sampled_from(NAMES), unique=True, max_size=2)
wanted = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "require_cuda": st.booleans(),
        "prefer_cuda": st.booleans(),
        "gpus": st.integers(1, 3),
        "min_vram_gib": st.sampled_from([0.0, *SIZES]),
        "min_ram_gib": st.sampled_from(SIZES),
        "min_cores": st.integers(1, 4),
        "allowed_hosts": hosts,
        "denied_hosts": hosts,
    }
)


@dataclass(frozen=True)
class Scene:
    workers: Mapping[str, Mapping[str, Any]]
    policies: Mapping[str, Mapping[str, Any]]
    job: Mapping[str, Any]
    holding: tuple[str, ...]
    draining: tuple[str, ...]
    silent: tuple[str, ...]


scenes = st.builds(
    Scene,
    st.dictionaries(st.sampled_from(NAMES), machines, min_size=1),
    st.dictionaries(st.sampled_from(NAMES), policies),
    wanted,
    st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
    hosts.map(tuple),
    hosts.map(tuple),
)


class Undone(Exception):
    """Rolls a claim back, once its answer is known."""


def worker_id(name: str) -> WorkerId:
    return WorkerId(str(UUID(int=NAMES.index(name) + 1)))


def load(stage: Stage, scene: Scene, *jobs: Mapping[str, Any]) -> None:
    text = manifest(*jobs, hosts=scene.policies)
    drive(stage.manifests.reload(ReloadRequest(toml=text, file="m"), "operator"))


def ask(stage: Stage, name: str, *, keep: bool = False) -> ClaimAnswer | None:
    """The answer to a claim of this worker alone; unless it is to be kept, nothing has happened afterwards."""
    request = Waiting(worker_id(name), str(uuid4()), 0.0, None)  # type: ignore[arg-type]  # no loop answers it
    answers: list[ClaimAnswer | None] = []

    def operate(tx: Transaction) -> None:
        answers.append(stage.matching._match(tx, [request]).answers.get(request.claim_id))
        if not keep:
            raise Undone

    with suppress(Undone):
        drive(stage.database.writer.run(operate))
    return answers[-1]


def set_up(stage: Stage, scene: Scene) -> JobId:
    """An empty database, the workers and what they hold, and one job that waits; its id."""
    stage.clock._now = FakeClock().now()
    with stage.connection.begin():
        for table in reversed(metadata.sorted_tables):
            stage.connection.execute(table.delete())
    stage.restart()
    for name, offers in scene.workers.items():
        drive(
            stage.workers.hello(
                HelloRequest(
                    worker=worker_id(name),
                    name=name,
                    protocol=1,
                    version="0.1.0",
                    incarnation=str(uuid4()),
                    capability=Capability.model_validate({**CAPABILITY, **offers}),
                )
            )
        )
    load(
        stage,
        scene,
        *(job(f"held {n}", min_ram_gib=0.5, seed=n) for n in range(len(scene.holding))),
        job("x", seed=99),
    )
    for name in scene.holding:
        if name in scene.workers:
            ask(stage, name, keep=True)
    for (left,) in stage.fetch("SELECT job_id FROM jobs WHERE status = 'pending'"):
        drive(stage.jobs.cancel(left, "operator", ""))
    load(stage, scene, {"name": "the job", "seed": 1000, "prefer_wait": PREFER_WAIT, **scene.job})
    for name in scene.workers:
        known = stage.roster.workers[worker_id(name)]
        stage.roster.put(replace(known, draining=name in scene.draining, live=name not in scene.silent))
    ((found,),) = stage.fetch("SELECT job_id FROM jobs WHERE status = 'pending'")
    return JobId(found)


def refusals(told: Explanation, name: str) -> set[str]:
    """Why not, save that it is silent: whoever claims is not."""
    (fit,) = (fit for fit in told.workers if fit.worker == name)
    return {refusal.code for refusal in fit.refusals} - {"not_live"}


EXAMPLES = {"sqlite": 40, "postgresql": 6}


def drawn(promise: Callable[[Stage, Scene], None], stage: Stage) -> None:
    """Hold the promise against scenes drawn at random, as many as the engine allows."""

    @given(scene=scenes)
    @settings(
        max_examples=EXAMPLES[stage.engine.dialect.name],
        deadline=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def hold(scene: Scene) -> None:
        promise(stage, scene)

    hold()


def test_explain_agrees_with_claim(stage: Stage):
    drawn(explain_agrees_with_claim, stage)


def explain_agrees_with_claim(stage: Stage, scene: Scene) -> None:
    work = set_up(stage, scene)
    told = drive(stage.jobs.explain(work))
    for name in scene.workers:
        answer = ask(stage, name)
        if refusals(told, name):
            assert answer is None, (name, refusals(told, name))
        elif answer is None:
            assert scene.job["prefer_cuda"], "only a preference may hold back what explain does not refuse"
            stage.clock.advance(PREFER_WAIT + 1)
            assert ask(stage, name) is not None, "and a preference passes"
            stage.clock.advance(-PREFER_WAIT - 1)
        else:
            assert answer.job.job_id == work


def test_the_suggested_change_is_enough(stage: Stage):
    drawn(the_suggested_change_is_enough, stage)


def the_suggested_change_is_enough(stage: Stage, scene: Scene) -> None:
    work = set_up(stage, scene)
    suggestion = drive(stage.jobs.explain(work)).relaxation
    assume(suggestion is not None)
    assert suggestion is not None
    for name in scene.workers:
        assert ask(stage, name) is None, "it suggests a change though nothing had to change"
    relaxed = apply(scene, suggestion)
    assert set_up(stage, relaxed) == work, "a need is no part of what is trained"
    stage.clock.advance(PREFER_WAIT + 1)
    answer = ask(stage, suggestion.worker)
    assert answer is not None, suggestion
    assert answer.job.job_id == work


def apply(scene: Scene, suggestion: Relaxation) -> Scene:
    """The manifest as the suggestion has it, to the letter; everybody idle, since it is about what never fits."""
    free = replace(scene, holding=(), draining=(), silent=())
    key, said = suggestion.key, suggestion.suggested
    if key.startswith("hosts."):
        policy, model = scene.policies[suggestion.worker], scene.job["model"]
        allow = [*policy["allow_jobs"], model] if policy["allow_jobs"] else []
        changed = {**policy, "allow_jobs": allow, "deny_jobs": [m for m in policy["deny_jobs"] if m != model]}
        return replace(free, policies={**scene.policies, suggestion.worker: changed})
    value: object
    if key == "require_cuda":
        return replace(free, job={**scene.job, "require_cuda": False, "prefer_cuda": True})
    if key.endswith("_hosts"):
        value = [name for name in said.strip("[]").split(", ") if name]
    else:
        value = type(scene.job[key])(float(said))
    return replace(free, job={**scene.job, key: value})
