from __future__ import annotations

from pathlib import Path

import pytest

from fleet_agent.endings import TAIL_BYTES, failure, is_release, last_words, read_tail
from fleet_agent.state import StopOrder
from fleet_protocol.states import FailureKind, ReleaseReason

TRACEBACK = """epoch 3
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    fit(x)
KeyError: 'heart_rate'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
    raise ValueError("no column named heart_rate")
ValueError: no column named heart_rate
"""


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("", None),
        ("\n \n", None),
        ("loading\nfleet-train: FLEET_DATA is not set\n\n", "fleet-train: FLEET_DATA is not set"),
        (TRACEBACK, "ValueError: no column named heart_rate"),
        (TRACEBACK + "\nwandb: syncing 1 file\n", "ValueError: no column named heart_rate"),
        (
            "  File 'x.py', line 1\n    a b\n      ^\nSyntaxError: invalid syntax\n",
            "SyntaxError: invalid syntax",
        ),
        (
            "Traceback (most recent call last):\n  x\npydantic.ValidationError: 1 error\nlr\n  no number\n    more\n",
            "pydantic.ValidationError: 1 error lr no number",
        ),
        ("10%\r20%\r\x1b[31mcannot open data\x1b[0m\r\n", "cannot open data"),
        ("half a line of a log\x00\x07", "half a line of a log"),
        ("x" * 1000, "x" * 400),
    ],
)
def test_the_reason_is_what_the_log_ends_with(tail: str, words: str | None) -> None:
    assert last_words(tail) == words


@pytest.mark.parametrize(
    ("status", "tail", "kind", "reason"),
    [
        (1, TRACEBACK, FailureKind.ERROR, "ValueError: no column named heart_rate"),
        (1, "", FailureKind.ERROR, "the trainer ended with exit code 1 and printed nothing"),
        (2, "hyper.lr is negative\n", FailureKind.REFUSED, "hyper.lr is negative"),
        (3, "", FailureKind.DATA, "the trainer finds its data missing or wrong here (exit code 3)"),
        (75, "", FailureKind.ERROR, "the trainer stopped with exit code 75 though nobody had asked it to"),
        (137, "", FailureKind.ERROR, "killed by SIGKILL, often the sign of too little memory"),
        (139, "epoch 3\n", FailureKind.ERROR, "killed by SIGSEGV; it last printed: epoch 3"),
        (255, "what\n", FailureKind.ERROR, "what"),
        (
            None,
            "epoch 3\n",
            FailureKind.INFRASTRUCTURE,
            "the trainer is gone without an exit status: its supervisor was killed",
        ),
    ],
)
def test_how_an_ending_is_reported(status: int | None, tail: str, kind: FailureKind, reason: str) -> None:
    assert failure(status, tail) == (kind, reason)


def test_an_end_of_which_no_result_was_safe_before_the_machine_restarted_is_the_machines_loss() -> None:
    kind, reason = failure(0, "", rebooted=True)
    assert kind is FailureKind.INFRASTRUCTURE
    assert "restarted before the finished result was safe" in reason


@pytest.mark.parametrize(
    ("tail", "disk_full"),
    [("OSError: [Errno 28] No space left on device: 'model.bin'\n", False), ("epoch 3\n", True), ("", True)],
)
def test_a_trainer_that_dies_of_a_full_disk_is_not_to_blame(tail: str, disk_full: bool) -> None:
    kind, reason = failure(1, tail, disk_full=disk_full)
    assert kind is FailureKind.INFRASTRUCTURE
    assert reason.startswith("the disk of this machine is full")
    assert tail.strip() in reason
    assert failure(2, tail, disk_full=disk_full)[0] is FailureKind.REFUSED  # would be so anywhere


def test_a_restart_of_the_machine_is_named() -> None:
    assert failure(None, "", rebooted=True)[1].endswith("the machine restarted")


@pytest.mark.parametrize(
    ("status", "reason", "released"),
    [
        (75, ReleaseReason.DRAINED, True),
        (None, ReleaseReason.DRAINED, True),
        (143, ReleaseReason.DRAINED, True),
        (0, ReleaseReason.DRAINED, False),
        (2, ReleaseReason.DRAINED, False),
        (0, ReleaseReason.STOPPED, True),
        (None, ReleaseReason.STOPPED, True),
    ],
)
def test_what_was_told_to_stop_is_given_back(
    status: int | None, reason: ReleaseReason, released: bool
) -> None:
    assert is_release(status, StopOrder(reason=reason, detail="")) is released
    assert not is_release(status, None)


def test_a_tail_is_short_and_survives_bytes_that_are_no_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 20_000 + b"\xff end")
    tail = read_tail(log)
    assert len(tail) == TAIL_BYTES
    assert tail.endswith("\ufffd end")
    assert read_tail(tmp_path / "none") == ""
