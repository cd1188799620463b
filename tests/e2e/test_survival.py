"""What is killed comes back, and nothing is trained twice, lost or repeated."""

from __future__ import annotations

import hashlib
import os
import signal

import psutil
import pytest

from fleet_protocol.states import AttemptStatus, JobStatus
from tests.e2e import manifests
from tests.e2e.house import House

pytestmark = pytest.mark.e2e
SHORT_LEASE = {"stale_after": 4, "heartbeat": 0.5, "sweep": 0.2, "live_after": 3}
ONE_LIFE = ["queued", "claimed", "started", "completed"]


def test_a_machine_that_dies_loses_its_job_to_another(house: House):
    house.serve(manifests.of("job"), **SHORT_LEASE)
    first = house.agent("first")
    house.trainer("job")
    house.agent("second")
    house.kill_machine(first)
    house.trainer("job", attempt=2)
    house.go("job")
    job = house.until_status("job", JobStatus.COMPLETED)
    assert (job.attempts, job.worker, job.errors, job.lost) == (2, "second", 0, 1)
    assert [one.status for one in job.history] == [AttemptStatus.LOST, AttemptStatus.COMPLETED]
    assert house.story("job") == ["queued", "claimed", "started", "lost", "claimed", "started", "completed"]
    evidence = house.log("job", str(job.history[0].attempt))
    assert evidence
    assert house.printed("job").startswith(evidence)
    assert house.log("job") == house.printed("job", 2)


def test_a_machine_that_slept_past_its_lease_ends_its_trainer_and_changes_nothing(house: House):
    house.serve(manifests.of("job"), **SHORT_LEASE)
    sleeper = house.agent("sleeper")
    trainer = house.trainer("job")
    house.agent("second")
    everything = [psutil.Process(sleeper.process.pid), psutil.Process(trainer)]
    for process in everything:
        process.suspend()
    house.trainer("job", attempt=2)
    for process in everything:
        process.resume()
    house.until(lambda: not psutil.pid_exists(trainer), "the sleeper's trainer to be ended")
    house.go("job")
    job = house.until_status("job", JobStatus.COMPLETED)
    assert (job.attempts, job.worker, job.lost) == (2, "second", 1)
    assert house.story("job").count("completed") == 1
    assert sleeper.is_running


def test_a_coordinator_killed_while_jobs_train_goes_on_where_it_was(house: House):
    server = house.serve(manifests.of("before", "during", "after"))
    house.agent("worker")
    house.go("before")
    before = house.until_status("before", JobStatus.COMPLETED)
    trainer = house.trainer("during")
    attempt, known = house.job("during").attempt, house.events()
    server.end(signal.SIGKILL)
    length = len(house.printed("during")) + 500
    house.until(lambda: len(house.printed("during")) > length, "the trainer to go on by itself")
    house.serve()
    house.until_log_has("during", length)
    assert house.events()[: len(known)] == known
    house.go("during")
    house.go("after")
    house.until_status("after", JobStatus.COMPLETED)
    during = house.job("during")
    assert (during.status, during.attempt, during.attempts) == (JobStatus.COMPLETED, attempt, 1)
    assert (house.control / "during-1.pid").read_text() == str(trainer)
    assert house.log("during") == house.printed("during")
    assert [house.story(name) for name in ("before", "during", "after")] == [ONE_LIFE] * 3
    assert house.job("before") == before
    bundle = house.get(f"/v1/model/{during.artifact}").raise_for_status().content
    assert hashlib.sha256(bundle).hexdigest() == during.artifact


def test_an_agent_that_is_asked_to_go_leaves_no_process_and_no_stuck_job(house: House):
    house.serve(manifests.of("job"))
    agent = house.agent("first")
    trainer = house.trainer("job")
    assert agent.end(signal.SIGTERM) == 0
    assert not psutil.pid_exists(trainer)
    job = house.job("job")
    assert (job.status, job.history[0].status) == (JobStatus.PENDING, AttemptStatus.RELEASED)
    assert house.log("job") == house.printed("job")
    house.go("job")
    house.agent("second")
    job = house.until_status("job", JobStatus.COMPLETED)
    assert (job.worker, job.errors, job.lost) == ("second", 0, 0)


def test_an_agent_killed_alone_takes_its_trainer_up_again(house: House):
    house.serve(manifests.of("job"))
    agent = house.agent("worker")
    trainer = house.trainer("job")
    attempt = house.job("job").attempt
    agent.end(signal.SIGKILL)
    length = len(house.printed("job")) + 500
    house.until(lambda: len(house.printed("job")) > length, "the trainer to go on by itself")
    house.agent("worker")
    house.until_log_has("job", length)
    os.kill(trainer, 0)
    house.go("job")
    job = house.until_status("job", JobStatus.COMPLETED)
    assert (job.attempt, job.attempts) == (attempt, 1)
    assert house.story("job") == ONE_LIFE
    assert house.log("job") == house.printed("job")


def test_a_trainer_that_ended_while_its_agent_was_dead_is_handed_in(house: House):
    house.serve(manifests.of("job"))
    agent = house.agent("worker")
    trainer = house.trainer("job")
    agent.end(signal.SIGKILL)
    house.go("job")
    house.until(lambda: not psutil.pid_exists(trainer), "the trainer's end")
    house.agent("worker")
    job = house.until_status("job", JobStatus.COMPLETED)
    assert (job.attempts, house.story("job")) == (1, ONE_LIFE)
    assert house.log("job") == house.printed("job")


def test_a_trainer_outlives_everything_around_it(house: House):
    server = house.serve(manifests.of("job"))
    agent = house.agent("worker")
    trainer = house.trainer("job")
    for program in (server, agent):
        program.end(signal.SIGKILL)
    house.go("job")
    house.until(lambda: not psutil.pid_exists(trainer), "the trainer's end")
    house.agent("worker")
    house.serve()
    job = house.until_status("job", JobStatus.COMPLETED)
    assert (job.attempts, house.story("job")) == (1, ONE_LIFE)
    assert house.log("job") == house.printed("job")
