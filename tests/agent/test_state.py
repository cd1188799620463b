from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from fleet_agent import locks
from fleet_agent.errors import AgentError
from fleet_agent.state import LOCK_VARIABLE, StateFolder, StopOrder
from fleet_protocol.ids import new_attempt_id
from fleet_protocol.states import FailureKind, ReleaseReason
from fleet_protocol.workers import ClaimAnswer, FailRequest
from tests.agent.coordinator import job_spec


def granted() -> ClaimAnswer:
    return ClaimAnswer(job=job_spec(), attempt=new_attempt_id(), number=1, lease_seconds=600)


def reopened(state: StateFolder) -> StateFolder:
    state.close()
    return StateFolder(state.root)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def test_an_agent_keeps_its_identity_and_gets_a_new_incarnation(state: StateFolder) -> None:
    again = reopened(state)
    assert again.worker == state.worker
    assert again.incarnation != state.incarnation
    assert state.root.stat().st_mode & 0o777 == 0o700


def test_a_second_agent_on_the_same_folder_is_refused(state: StateFolder) -> None:
    with pytest.raises(AgentError, match="Another agent runs on"):
        StateFolder(state.root)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match=r"file/state cannot be used.*--state"):
        StateFolder(tmp_path / "file" / "state")


def test_a_claim_is_on_disk_until_it_is_answered(state: StateFolder) -> None:
    claim = state.new_claim()
    again = reopened(state)
    assert again.pending_claim() == claim
    again.settle_claim()
    assert again.pending_claim() is None


def test_an_attempt_is_admitted_once(state: StateFolder) -> None:
    answer = granted()
    assert state.admit(answer, "boot") is not None
    assert state.admit(answer, "boot") is None
    [folder] = reopened(state).attempts()
    assert (folder.job, folder.attempt, folder.record.boot_id) == (answer.job, answer.attempt, "boot")


def test_a_folder_without_a_record_is_nobodys_attempt(state: StateFolder) -> None:
    (state.root / "attempts" / new_attempt_id()).mkdir()
    assert state.attempts() == []
    assert list((state.root / "attempts").iterdir()) == []


def test_a_result_and_a_stop_order_survive(state: StateFolder) -> None:
    folder = state.admit(granted(), None)
    assert folder is not None
    failed = FailRequest(worker=state.worker, attempt=folder.attempt, kind=FailureKind.DATA, reason="no data")
    folder.owe(failed)
    folder.note_stop(StopOrder(reason=ReleaseReason.DRAINED, detail="first"))
    folder.note_stop(StopOrder(reason=ReleaseReason.STOPPED, detail="second"))
    [found] = reopened(state).attempts()
    assert found.owed() == failed
    order = found.stop_order()
    assert order is not None
    assert order.detail == "first"
    assert not found.is_reported
    found.note_reported()
    assert found.is_reported


def test_the_trainer_finds_its_job_as_the_contract_says(state: StateFolder) -> None:
    folder = state.admit(granted(), None)
    assert folder is not None
    folder.prepare()
    spec = json.loads(folder["job.json"].read_text())
    assert list(spec) == [
        "schema",
        "job_id",
        "name",
        "model",
        "mode",
        "hyper",
        "split_recipe",
        "train_hosts",
        "seed",
        "n_resamples",
        "dataset",
    ]
    assert spec["train_hosts"] == ["a", "b"]


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = StateFolder(Path("here")).admit(granted(), None)
    assert folder is not None
    assert folder["job.json"].is_relative_to(tmp_path / "here")


def test_a_removed_attempt_is_gone(state: StateFolder) -> None:
    folder = state.admit(granted(), None)
    assert folder is not None
    folder.prepare()
    folder.remove()
    assert state.attempts() == []


def copied(state: StateFolder, to: Path) -> StateFolder:
    shutil.copytree(state.root, to)
    return StateFolder(to)


def test_a_copy_knows_that_it_may_be_one(state: StateFolder, tmp_path: Path) -> None:
    assert not reopened(state).moved
    copy = copied(state, tmp_path / "copy")
    assert copy.moved
    assert copy.worker == state.worker
    copy.settle()
    assert not reopened(copy).moved
    assert copy.worker == state.worker


def test_another_machine_is_another_place(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert reopened(state).moved


def test_a_copy_of_a_folder_in_use_becomes_another_and_sets_aside_what_is_not_its_own(
    state: StateFolder, tmp_path: Path
) -> None:
    folder = state.admit(granted(), None)
    assert folder is not None
    state.new_claim()
    copy = copied(state, tmp_path / "copy")
    copy.become_another()
    assert copy.worker != state.worker
    assert not copy.moved
    assert copy.attempts() == []
    assert copy.pending_claim() is None
    assert (copy.root / "kept" / folder.attempt / "attempt.json").exists()
    again = reopened(copy)
    assert (again.worker, again.moved) == (copy.worker, False)


def test_the_lock_is_handed_over_without_a_gap(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOCK_VARIABLE, raising=False)
    handle = state._lock
    assert handle is not None
    state.hand_over()
    state.close()
    assert os.get_inheritable(handle)
    assert locks.is_held(state.root / "lock")
    heir = StateFolder(state.root)
    assert heir._lock == handle
    assert not os.get_inheritable(handle)
    assert LOCK_VARIABLE not in os.environ
    heir.close()
    assert not locks.is_held(state.root / "lock")


@pytest.mark.parametrize("told", ["", "x", "1", "9999"])
def test_a_number_that_is_no_lock_of_ours_changes_nothing(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv(LOCK_VARIABLE, told)
    with pytest.raises(AgentError, match="Another agent runs on"):
        StateFolder(state.root)
    monkeypatch.setenv(LOCK_VARIABLE, told)
    assert reopened(state).worker == state.worker
