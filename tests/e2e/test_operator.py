"""What an operator sees and orders, by the `fleet` command as a program."""

from __future__ import annotations

import json

import psutil
import pytest

from fleet_protocol.states import AttemptStatus, JobStatus
from tests.e2e import manifests
from tests.e2e.house import House

pytestmark = pytest.mark.e2e
ERROR = "ValueError: the sensor table has no column named wrist"


def test_a_failed_job_shows_its_real_error(house: House):
    house.serve(manifests.of("broken", each="max_attempts = 1"))
    house.agent("worker")
    house.go("broken", fail=True)
    house.until_status("broken", JobStatus.FAILED)
    assert ERROR in house.fleet("status")
    (row,) = json.loads(house.fleet("status", "--json"))["jobs"]
    assert (row["status"], row["reason"], row["attempts"]) == ("failed", ERROR, 1)
    shown = house.fleet("show", "broken")
    assert 'raise ValueError("the sensor table has no column named wrist")' in shown
    assert house.log("broken") == house.printed("broken")


def test_a_running_job_that_is_cancelled_is_stopped_by_a_word_not_by_its_next_heartbeat(house: House):
    house.serve(manifests.of("job", "next"), heartbeat=3600)
    house.agent("worker")
    trainer = house.trainer("job")
    assert "being stopped" in house.fleet("cancel", "job", "--reason", "wrong seed")
    job = house.until_status("job", JobStatus.CANCELLED)
    assert not psutil.pid_exists(trainer)
    assert [one.status for one in job.history] == [AttemptStatus.CANCELLED]
    assert house.log("job").endswith(b"asked to stop\n")
    house.go("next")
    house.until_status("next", JobStatus.COMPLETED)
    house.fleet("requeue", "job")
    house.go("job")
    assert house.until_status("job", JobStatus.COMPLETED).attempts == 2


def test_a_log_is_followed_while_it_is_written_and_ends_with_its_attempt(house: House):
    house.serve(manifests.of("job"))
    house.agent("worker")
    house.trainer("job")
    follower = house.command("follower", "logs", "--follow", "job")
    house.until(lambda: "step 20 " in follower.said(), "lines in `fleet logs -f`")
    assert house.job("job").status is JobStatus.RUNNING
    seen = len(follower.said())
    house.until(lambda: len(follower.said()) > seen, "more lines")
    house.go("job")
    assert follower.process.wait(30) == 0
    assert house.printed("job").decode() in follower.said()
    assert house.job("job").status is JobStatus.COMPLETED


def test_every_refusal_is_a_sentence_with_an_exit_code(house: House):
    server = house.serve(manifests.of("job"))
    history = house.events()
    assert "no-such-job" in house.fleet("show", "no-such-job", code=1)
    assert "pending" in house.fleet("requeue", "job", code=1)
    (house.folder / "wrong.toml").write_text(manifests.of("job", each='modle = "gbt"\nmin_cores = "many"'))
    said = house.fleet("reload", "wrong.toml", code=1)
    assert "modle" in said
    assert "min_cores" in said
    assert house.events() == history
    house.fleet("list", "--sort", "colour", code=2)
    server.end()
    assert "fleet-server serve" in house.fleet("status", code=3)
