"""Whole lives of attempts: a real agent, real trainer processes, a coordinator on a real port."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports.zstd import ZstdFile

from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import AttemptId
from fleet_protocol.states import FailureKind, ReleaseReason, Verdict
from fleet_protocol.workers import (
    AttemptVerdict,
    CompleteRequest,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    HelloRequest,
    ReleaseRequest,
)
from tests.agent.conftest import Bench, is_running, until
from tests.agent.coordinator import Coordinator, job_spec

Script = Callable[[str], str]

# An agent that "dies" here leaves its trainer behind in this very process, which Python finds untidy.
pytestmark = pytest.mark.filterwarnings("ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning")

TRAINS = """
out = pathlib.Path(os.environ["FLEET_OUTPUT_DIR"])
print("epoch 1", flush=True)
(out / "model.bin").write_bytes(b"weights")
(out / "metrics.json").write_text(json.dumps({"metrics": {
    "z_headline": {"value": 0.5, "low": 0.4, "high": 0.6, "unit": "host"}, "a_second": {"value": 2, "low": None}}}))
"""
WAITS = """
signal.signal(signal.SIGTERM, lambda *_: (print("checkpoint", flush=True), os._exit(75)))
print("ready", os.getpid(), flush=True)
while True: time.sleep(1)
"""
WAITS_FOR_FILE = """
print("started", flush=True)
go = pathlib.Path(os.environ["FLEET_DATA"]) / "go"
while not go.exists(): time.sleep(0.01)
print("finished", flush=True)
(pathlib.Path(os.environ["FLEET_OUTPUT_DIR"]) / "model.bin").write_bytes(b"weights")
"""


def problem(status: int, code: Code) -> Problem:
    return Problem(title="no", status=status, detail="the test says no", code=code)


async def has_printed(coordinator: Coordinator, attempt: AttemptId, text: bytes) -> None:
    await coordinator.until(lambda: text in coordinator.logs[attempt])


async def test_a_job_trains_and_its_artifact_metrics_and_log_arrive(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        [done] = await coordinator.told("complete")
        await until(lambda: not bench.attempts())
    assert isinstance(done, CompleteRequest)
    assert done.attempt == attempt
    assert list(done.metrics) == ["z_headline", "a_second"]
    assert done.metrics["z_headline"].low == 0.4
    assert done.provenance["hostname"] == "here"
    packed = ZstdFile(io.BytesIO(coordinator.artifacts[done.artifact]))
    with packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        assert archive.getnames() == ["metrics.json", "model.bin"]
    assert coordinator.logs[attempt] == b"epoch 1\n"
    assert [kind for kind, _ in coordinator.calls if kind in ("start", "complete", "fail")] == [
        "start",
        "complete",
    ]


async def test_a_log_says_at_its_end_which_metrics_were_left_out(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS.replace('"low": None', '"unit": 7')))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        [done] = await coordinator.told("complete")
        await until(lambda: not bench.attempts())
    assert isinstance(done, CompleteRequest)
    assert list(done.metrics) == ["z_headline"]
    assert done.log_bytes == len(coordinator.logs[attempt])
    printed, told = coordinator.logs[attempt].decode().splitlines()
    assert printed == "epoch 1"
    assert told.startswith("fleet: 1 of metrics.json left out: 'a_second': ")


async def test_the_trainer_gets_the_job_and_no_token(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    shows = """
print(json.dumps({"env": dict(os.environ), "argv": sys.argv[1:],
                  "spec": json.load(open(os.environ["FLEET_JOB_SPEC"])), "cwd": os.listdir(".")}))
"""
    bench.set(python=trainer(shows), data=tmp_path)
    attempt = coordinator.offer(job_spec(hyper={"lr": 0.1, "threads": 2}), number=3)
    async with bench.agent():
        await coordinator.told("complete")
        await has_printed(coordinator, attempt, b"}\n")
    told = json.loads(coordinator.logs[attempt])
    assert told["argv"] == ["-m", "fleet_trainer", "run"]
    assert told["spec"]["schema"] == 1
    assert told["spec"]["hyper"] == {"lr": 0.1, "threads": 2}
    assert told["cwd"] == []
    assert told["env"]["FLEET_DATA"] == str(tmp_path)
    assert told["env"]["FLEET_ATTEMPT"] == "3"
    assert told["env"]["OMP_NUM_THREADS"] == "2"
    assert not [name for name in told["env"] if "TOKEN" in name]


async def test_a_failure_is_reported_with_its_real_error(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer('print("loading")\nraise ValueError("no column named heart_rate")'))
    coordinator.offer(job_spec())
    async with bench.agent():
        [failed] = await coordinator.told("fail")
    assert isinstance(failed, FailRequest)
    assert failed.kind is FailureKind.ERROR
    assert failed.reason == "ValueError: no column named heart_rate"
    assert failed.exit_code == 1
    assert "Traceback" in failed.tail


async def test_exit_codes_two_and_three_name_their_kind(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer('sys.exit(int(os.environ["FLEET_SEED"]))'))
    for code in (2, 3, 75):
        coordinator.offer(job_spec(seed=code))
    async with bench.agent():
        failed = await coordinator.told("fail", 3)
    assert [body.kind for body in failed] == [FailureKind.REFUSED, FailureKind.DATA, FailureKind.ERROR]  # type: ignore[attr-defined]  # every one of them failed


async def test_an_interpreter_that_is_not_there_is_the_machines_fault(
    bench: Bench, coordinator: Coordinator
) -> None:
    bench.set(python="/no/such/python")
    coordinator.offer(job_spec())
    async with bench.agent():
        [failed] = await coordinator.told("fail")
    assert isinstance(failed, FailRequest)
    assert failed.kind is FailureKind.INFRASTRUCTURE
    assert "/no/such/python" in failed.reason


async def test_heartbeats_carry_progress(bench: Bench, coordinator: Coordinator, trainer: Script) -> None:
    emits = """
with open(os.environ["FLEET_EVENTS"], "a") as events:
    events.write('{"type": "phase", "name": "train"}\\n{"type": "progress", "step": 3, "total": 9}\\n')
"""
    coordinator.heartbeat_seconds = 1000.0
    bench.set(python=trainer(emits + WAITS))
    coordinator.offer(job_spec())

    def progressed() -> bool:
        return any(isinstance(b, HeartbeatRequest) and b.progress for b in coordinator.of("heartbeat"))

    async with bench.agent():
        await coordinator.until(progressed)
    [beat] = [
        b.progress for b in coordinator.of("heartbeat") if isinstance(b, HeartbeatRequest) and b.progress
    ]
    assert (beat.step, beat.total, beat.phase) == (3, 9, "train")


async def test_draining_checkpoints_and_gives_the_job_back(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"ready")
    [released] = coordinator.of("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.DRAINED
    assert coordinator.logs[attempt].endswith(b"checkpoint\n")
    assert not is_running(int(coordinator.logs[attempt].split()[1]))
    assert bench.attempts() == []


async def test_a_second_signal_ends_a_trainer_that_ignores_the_first(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS.replace("os._exit(75)", "None")), grace=1000.0)
    attempt = coordinator.offer(job_spec())
    async with bench.agent() as agent:
        await has_printed(coordinator, attempt, b"ready")
        agent.on_signal()
        await has_printed(coordinator, attempt, b"checkpoint")
    assert not is_running(int(coordinator.logs[attempt].split()[1]))
    [released] = coordinator.of("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.DRAINED


async def test_a_drain_does_not_wait_for_an_upload_that_cannot_be_had(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS))
    bench.timing = dataclasses.replace(bench.timing, farewell=0.2)
    coordinator.problems["upload"] = [problem(507, Code.STORAGE_FULL)] * 10_000
    coordinator.offer(job_spec())
    async with bench.agent():
        await until(lambda: [folder for folder in bench.attempts() if (folder / "bundle.tar.zst").exists()])
    assert coordinator.of("complete") == coordinator.of("release") == []
    coordinator.problems.clear()
    async with bench.agent():
        await coordinator.told("complete")
        await until(lambda: not bench.attempts())


async def test_a_job_finished_while_draining_is_completed(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    finishes = WAITS.replace("os._exit(75)", "os._exit(0)")
    bench.set(python=trainer(finishes))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"ready")
    assert len(coordinator.of("complete")) == 1
    assert coordinator.of("release") == []


async def test_a_stop_in_a_heartbeats_answer_ends_the_trainer(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"ready")
        coordinator.verdicts[attempt] = HeartbeatAnswer(verdict=Verdict.STOP, why="cancelled by the operator")
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.STOPPED
    assert released.detail == "cancelled by the operator"


async def test_a_stop_pushed_over_the_websocket_ends_the_trainer(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    coordinator.heartbeat_seconds = 1000.0
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"ready")
        await coordinator.push_stop(attempt, "cancelled")
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.STOPPED


async def test_an_attempt_that_is_unknown_there_goes_on_training(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    bench.set(python=trainer(WAITS_FOR_FILE), data=tmp_path)
    attempt = coordinator.offer(job_spec())
    coordinator.verdicts[attempt] = HeartbeatAnswer(verdict=Verdict.UNKNOWN)
    async with bench.agent():
        await coordinator.told("heartbeat", 3)
        (tmp_path / "go").touch()
        await coordinator.told("complete")
    assert coordinator.of("release") == []


async def test_a_coordinator_that_is_away_stops_nothing_and_gets_everything_later(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    bench.set(python=trainer(WAITS_FOR_FILE), data=tmp_path)
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await has_printed(coordinator, attempt, b"started")
        await coordinator.stop()
        (tmp_path / "go").touch()
        [folder] = bench.attempts()
        await until((folder / "exit").exists)
        await coordinator.start()
        await coordinator.told("complete")
        await has_printed(coordinator, attempt, b"finished")
    assert coordinator.logs[attempt] == b"started\nfinished\n"


async def test_a_result_survives_an_agent_that_dies_before_it_could_tell(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("print('x')\nsys.exit(5)"))
    coordinator.offer(job_spec())
    coordinator.problems["fail"] = [problem(503, Code.BUSY)] * 1000
    async with bench.agent(dies=True):
        await coordinator.told("refused fail")
    coordinator.problems.clear()
    async with bench.agent():
        hello = (await coordinator.told("hello", 2))[-1]
        [failed] = await coordinator.told("fail")
        await until(lambda: not bench.attempts())
    assert isinstance(hello, HelloRequest)
    assert [local.running for local in hello.attempts] == [False]
    assert isinstance(failed, FailRequest)
    assert failed.exit_code == 5
    assert len(coordinator.of("start")) == 1


async def test_a_new_agent_takes_up_a_running_trainer(
    bench: Bench, coordinator: Coordinator, trainer: Script, tmp_path: Path
) -> None:
    bench.set(python=trainer(WAITS_FOR_FILE), data=tmp_path)
    attempt = coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await has_printed(coordinator, attempt, b"started")
    async with bench.agent():
        hello = (await coordinator.told("hello", 2))[-1]
        assert isinstance(hello, HelloRequest)
        [local] = hello.attempts
        assert (local.attempt, local.running) == (attempt, True)
        (tmp_path / "go").touch()
        await coordinator.told("complete")
    assert coordinator.logs[attempt] == b"started\nfinished\n"
    assert len([b for b in coordinator.of("complete")]) == 1


async def test_a_stop_verdict_at_hello_ends_a_trainer_taken_up(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await has_printed(coordinator, attempt, b"ready")
    coordinator.heartbeat_seconds = 1000.0
    coordinator.hello_verdicts = (AttemptVerdict(attempt=attempt, verdict=Verdict.STOP, why="requeued"),)
    async with bench.agent():
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.STOPPED


async def test_a_stop_order_outlives_the_agent_that_got_it(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    """It died between writing the order down and the signal: the next one sends it, and the exit is no error."""
    bench.set(python=trainer(WAITS))
    attempt = coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await has_printed(coordinator, attempt, b"ready")
    [folder] = bench.attempts()
    (folder / "stop.json").write_text(
        '{"reason": "drained", "detail": "the first agent was asked to go away"}'
    )
    async with bench.agent():
        [released] = await coordinator.told("release")
    assert isinstance(released, ReleaseRequest)
    assert released.detail == "the first agent was asked to go away"
    assert coordinator.of("fail") == []


async def test_a_log_that_was_late_is_sent_by_the_next_agent_and_nothing_else(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("print('late')\nsys.exit(1)"))
    bench.timing = dataclasses.replace(bench.timing, log_patience=0.05)
    coordinator.has_websocket = False
    coordinator.problems["log"] = [problem(503, Code.BUSY)] * 10_000
    attempt = coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await coordinator.told("fail")
        [folder] = bench.attempts()
        await until((folder / "reported").exists)
    coordinator.problems.clear()
    async with bench.agent():
        hello = (await coordinator.told("hello", 2))[-1]
        await has_printed(coordinator, attempt, b"late\n")
        await until(lambda: not bench.attempts())
    assert isinstance(hello, HelloRequest)
    assert hello.attempts == ()
    assert len(coordinator.of("fail")) == 1


async def test_a_claim_whose_answer_was_lost_costs_nothing(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("pass"))
    attempt = coordinator.offer(job_spec())
    coordinator.lost_answers["claim"] = 1
    async with bench.agent():
        [done] = await coordinator.told("complete")
    assert isinstance(done, CompleteRequest)
    assert done.attempt == attempt


async def test_a_claim_granted_to_an_agent_that_died_is_begun_by_the_next(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("pass"))
    coordinator.lost_answers["claim"] = 1000
    attempt = coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await coordinator.told("claim", 2)
    coordinator.lost_answers.clear()
    async with bench.agent():
        [done] = await coordinator.told("complete")
    assert isinstance(done, CompleteRequest)
    assert done.attempt == attempt


async def test_a_job_granted_while_draining_is_given_back_unbegun(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("pass"))
    coordinator.lost_answers["claim"] = 3
    coordinator.offer(job_spec())
    async with bench.agent(dies=True):
        await coordinator.told("claim")
    coordinator.lost_answers.clear()
    async with bench.agent() as agent:
        agent.on_signal()
    [released] = coordinator.of("release")
    assert isinstance(released, ReleaseRequest)
    assert released.reason is ReleaseReason.NOT_STARTED
    assert coordinator.of("start") == []


async def test_the_start_of_a_superseded_attempt_ends_its_trainer(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(WAITS))
    coordinator.offer(job_spec())
    coordinator.problems["start"] = [problem(409, Code.STALE_ATTEMPT)]
    coordinator.problems["release"] = [problem(409, Code.STALE_ATTEMPT)]
    async with bench.agent():
        await coordinator.told("refused release")
        await until(lambda: not bench.attempts())


async def test_a_refused_result_is_kept(bench: Bench, coordinator: Coordinator, trainer: Script) -> None:
    bench.set(python=trainer(TRAINS))
    attempt = coordinator.offer(job_spec())
    coordinator.problems["complete"] = [problem(404, Code.UNKNOWN_JOB)]
    async with bench.agent():
        kept = bench.settings.state / "kept" / attempt
        await until(kept.exists)
        await until(lambda: not bench.attempts())
    assert (kept / "output" / "model.bin").read_bytes() == b"weights"


async def test_an_artifact_that_is_there_already_completes_another_attempt_too(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    """A job trained anew by the same code brings the same bytes."""
    bench.set(python=trainer(TRAINS))
    coordinator.offer(job_spec())
    coordinator.offer(job_spec(), number=2)
    async with bench.agent():
        first, second = await coordinator.told("complete", 2)
    assert isinstance(first, CompleteRequest)
    assert isinstance(second, CompleteRequest)
    assert first.artifact == second.artifact
    assert coordinator.of("refused complete") == []


async def test_an_artifact_that_the_coordinator_lost_is_sent_again(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer(TRAINS))
    coordinator.offer(job_spec())
    coordinator.problems["complete"] = [problem(409, Code.ARTIFACT_MISSING)]
    async with bench.agent():
        await coordinator.told("complete")


async def test_a_worker_that_is_unknown_says_hello_again(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer("pass"))
    coordinator.problems["claim"] = [problem(409, Code.UNKNOWN_WORKER)]
    coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.told("complete")
    assert len(coordinator.of("hello")) == 2


async def test_what_a_trainer_leaves_behind_ends_with_it(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    forks = 'child = subprocess.Popen(["sleep", "1000"])\nprint(child.pid, flush=True)'
    bench.set(python=trainer(forks))
    attempt = coordinator.offer(job_spec())
    async with bench.agent():
        await coordinator.told("complete")
        await until(lambda: not is_running(int(coordinator.logs[attempt])))


async def test_a_link_in_the_output_fails_the_job(
    bench: Bench, coordinator: Coordinator, trainer: Script
) -> None:
    bench.set(python=trainer('os.symlink("/etc/passwd", os.environ["FLEET_OUTPUT_DIR"] + "/model")'))
    coordinator.offer(job_spec())
    async with bench.agent():
        [failed] = await coordinator.told("fail")
    assert isinstance(failed, FailRequest)
    assert "model is a link" in failed.reason
