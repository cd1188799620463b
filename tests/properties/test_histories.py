"""The promises about jobs, under whatever can be asked, in any order, as often and as late as it may be.

Each step's outcome is foretold by the reference; rows, history and attempts are compared with it after each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from typing import TypeVar, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pydantic import BaseModel

from fleet_protocol import workers as worker_words
from fleet_protocol.wire import Request
from tests.properties import seeded
from tests.properties.history import OFTEN, STEPS, History
from tests.properties.inline import Backup, Stage

T = TypeVar("T")
HISTORIES = {"sqlite": 100, "postgresql": 15}
EXAMPLES = {"sqlite": 20, "postgresql": 6}


class Drawn:
    """Chance as Hypothesis has it, so that it can make a failing history shorter."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def of(self, options: Sequence[T]) -> T:
        return options[self.data.draw(st.integers(0, len(options) - 1))]


def machine(stage: Stage, beginning: Backup) -> type[RuleBasedStateMachine]:
    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            seeded.begin_again(stage, beginning)
            self.history: History | None = None

        @rule(step=st.sampled_from(OFTEN), data=st.data())
        def take(self, step: str, data: st.DataObject) -> None:
            if self.history is None:
                self.history = History(stage, Drawn(data), Counter())
                self.history.begin()
            self.history.choice = Drawn(data)
            self.history.step(step)

    return Histories


def test_the_promises_hold_in_any_order(stage: Stage, beginning: Backup):
    run_state_machine_as_test(
        machine(stage, beginning),
        settings=settings(
            max_examples=EXAMPLES[stage.engine.dialect.name],
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_promises_hold_in_seeded_histories(stage: Stage, beginning: Backup):
    met: Counter[str] = Counter()
    for seed in range(HISTORIES[stage.engine.dialect.name]):
        seeded.play(stage, beginning, seed, met)
    assert {"heartbeat: unknown", "lease lost", "an older database restored", "replayed claim"} <= met.keys()


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_tells_the_same_history_again(stage: Stage, beginning: Backup, seed: int):
    told = []
    for _ in range(2):
        seeded.play(stage, beginning, seed, Counter())
        told.append(stage.fetch("SELECT event, kind, actor, detail, job_id FROM events ORDER BY event"))
    assert told[0] == told[1]


def test_a_broken_promise_names_its_seed(stage: Stage, beginning: Backup, monkeypatch: pytest.MonkeyPatch):
    """The driver can see: a step that nobody foretold is an error, with all it takes to see it again."""

    def forbidden(history: History) -> None:
        with history.stage.connection.begin():
            history.stage.connection.exec_driver_sql("UPDATE jobs SET errors = errors + 1")

    monkeypatch.setitem(STEPS, "sweep", forbidden)
    told = [_first_failure(stage, beginning) for _ in range(2)]
    assert told[0] == told[1]
    assert told[0].startswith("seed ")
    assert told[0].endswith(" sweep")


def _first_failure(stage: Stage, beginning: Backup) -> str:
    for seed in range(50):
        try:
            seeded.play(stage, beginning, seed, Counter())
        except AssertionError as error:
            return error.__notes__[0]
    raise AssertionError("nothing was noticed")


def _requests() -> list[type[BaseModel]]:
    found = [kind for kind in vars(worker_words).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, Request) and kind is not Request]


def _types(annotation: object) -> Iterator[object]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for field in annotation.model_fields.values():
            yield from _types(field.annotation)


@pytest.mark.parametrize("request_model", _requests())
def test_no_word_of_an_agent_carries_a_time(request_model: type[BaseModel]):
    """Its clock may say what it likes: no transition can depend on it."""
    assert not {datetime, date, time} & {found for found in _types(request_model) if isinstance(found, type)}
