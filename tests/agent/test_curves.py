"""Curves on their way: numbered batches over a link that drops, to a coordinator that dictates where to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleet_agent import curves as curves_module
from fleet_agent.curves import Curves
from fleet_agent.progress import TrainerEvents
from fleet_agent.uplink import Uplink
from fleet_protocol.errors import Code
from fleet_protocol.ids import AttemptId, WorkerId, new_attempt_id, new_worker_id
from fleet_protocol.metrics import MetricsRequest
from fleet_protocol.workers import CompleteRequest, HelloRequest
from tests.agent.conftest import Bench, until
from tests.agent.coordinator import TOKEN, Coordinator, job_spec
from tests.agent.test_life import Script, problem
from tests.agent.test_progress import append, point

WORKER: WorkerId = new_worker_id()


class Sending:
    """One attempt's curves, its file in `folder`."""

    def __init__(self, coordinator: Coordinator, folder: Path) -> None:
        self.coordinator = coordinator
        self.path = folder / "events.jsonl"
        self.attempt: AttemptId = new_attempt_id()

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Curves]:
        """The loop of one agent's life, which ends as a killed process does."""
        uplink = Uplink(self.coordinator.url, lambda: TOKEN, retry_ceiling=0.05)
        self.events = TrainerEvents(self.path)
        curves = Curves(uplink, WORKER, self.attempt, self.events, seconds=0.01)
        running = asyncio.create_task(curves.run())
        try:
            yield curves
        finally:
            running.cancel()
            await asyncio.wait([running])
            await uplink.close()

    @property
    def steps(self) -> list[int]:
        return [one.step for one in self.coordinator.points[self.attempt]]

    async def until_there(self, count: int) -> None:
        await self.coordinator.until(lambda: len(self.steps) >= count)


@pytest.fixture
def sending(coordinator: Coordinator, tmp_path: Path) -> Sending:
    return Sending(coordinator, tmp_path)


async def test_points_arrive_while_they_are_told_and_all_of_them_once_the_trainer_is_gone(
    sending: Sending,
) -> None:
    async with sending.agent() as curves:
        append(sending.path, point(1) + point(2))
        await sending.until_there(2)
        append(sending.path, point(3) + '{"type": "progress", "step": 3}\n')
        await sending.until_there(3)
        append(sending.path, point(4).rstrip())
        curves.close()
        await curves.over.wait()
    assert sending.steps == [1, 2, 3, 4]
    assert sending.events.latest is not None


async def test_nothing_is_sent_of_a_trainer_that_tells_nothing(
    sending: Sending, coordinator: Coordinator
) -> None:
    async with sending.agent() as curves:
        curves.close()
        await curves.over.wait()
    assert not coordinator.of("metrics")


async def test_an_agent_that_takes_up_goes_on_where_the_coordinator_is(sending: Sending) -> None:
    append(sending.path, point(1) + point(2))
    async with sending.agent():
        await sending.until_there(2)
    append(sending.path, point(3))
    async with sending.agent() as curves:
        curves.close()
        await curves.over.wait()
    assert sending.steps == [1, 2, 3]


async def test_a_lost_answer_a_lost_link_and_a_restored_coordinator_cost_no_point(
    sending: Sending, coordinator: Coordinator
) -> None:
    async with sending.agent() as curves:
        coordinator.lost_answers["metrics"] = 1
        append(sending.path, point(1) + point(2))
        await sending.until_there(2)
        await coordinator.stop()
        append(sending.path, point(3))
        await coordinator.start()
        await sending.until_there(3)
        del coordinator.points[sending.attempt][1:]  # put back to what it was before
        append(sending.path, point(4))
        await sending.until_there(4)
        curves.close()
        await curves.over.wait()
    assert sending.steps == [1, 2, 3, 4]


async def test_what_is_much_goes_in_batches_without_pauses(
    sending: Sending, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves_module, "MAX_POINTS", 100)
    append(sending.path, "".join(point(step) for step in range(1050)))
    async with sending.agent() as curves:
        curves.close()
        await curves.over.wait()
    assert sending.steps == list(range(1050))
    batches = [body for body in coordinator.of("metrics") if isinstance(body, MetricsRequest)]
    assert [len(batch.points) for batch in batches] == [100] * 10 + [50]


async def test_who_does_not_want_them_ends_the_sending_but_not_the_reading(
    sending: Sending, coordinator: Coordinator
) -> None:
    coordinator.problems["metrics"] = [problem(404, Code.UNKNOWN_ATTEMPT)]
    with capture_logs() as said:
        async with sending.agent() as curves:
            append(sending.path, point(1))
            await curves.over.wait()
            append(sending.path, '{"type": "progress", "step": 7}\n' + point(2))
            await until(lambda: sending.events.latest and not sending.events.points)
    assert sending.steps == []
    assert [line["action"] for line in said] == ["metrics_refused"]


async def test_what_cannot_be_understood_is_said_once(sending: Sending) -> None:
    with capture_logs() as said:
        async with sending.agent() as curves:
            append(sending.path, "half a line\n" + point(1))
            await sending.until_there(1)
            append(sending.path, "another\n" + point(2))
            curves.close()
            await curves.over.wait()
    [line] = said
    assert line["action"] == "events_left_out"
    assert sending.events.bad_lines == 2


TELLS = """
with open(os.environ["FLEET_EVENTS"], "a") as file:
    for step in range(1, 4):
        file.write(json.dumps({"type": "progress", "step": step, "total": 3}) + "\\n")
        file.write(json.dumps({"type": "metric", "name": "loss", "step": step, "value": 1 / step}) + "\\n")
(pathlib.Path(os.environ["FLEET_OUTPUT_DIR"]) / "model.bin").write_bytes(b"weights")
"""


async def test_a_jobs_curve_is_there_before_its_result(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TELLS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.told("complete")
        kinds = [name for name, _ in coordinator.calls]
        await until(lambda: not bench.attempts())
    assert kinds.index("metrics") < kinds.index("complete")
    [hello, *_] = coordinator.of("hello")
    assert isinstance(hello, HelloRequest)
    assert hello.gauges is not None
    assert hello.gauges.ram_used_gib is not None
    assert [(one.step, one.value) for one in coordinator.points[attempt]] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


async def test_a_result_does_not_wait_long_for_its_curve_which_follows(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TELLS))
    coordinator.problems["metrics"] = [problem(503, Code.BUSY) for _ in range(100)]
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        [done] = await coordinator.told("complete")
        assert isinstance(done, CompleteRequest)
        assert not coordinator.points[attempt]
        coordinator.problems["metrics"].clear()
        await coordinator.told("metrics")
        await until(lambda: not bench.attempts())
    assert len(coordinator.points[attempt]) == 3
