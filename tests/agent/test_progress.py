from __future__ import annotations

from pathlib import Path

from fleet_agent.progress import LINE_BYTES, ProgressTail
from fleet_protocol.jobs import Progress


def test_progress_and_phase_are_followed_as_they_are_appended(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    tail = ProgressTail(events)
    assert not tail.poll()
    with events.open("a") as file:
        file.write(
            '{"type": "phase", "name": "train"}\n{"type": "metric", "name": "loss", "value": 1}\n{"type": "prog'
        )
    assert tail.poll()
    assert tail.latest == Progress(phase="train")
    with events.open("a") as file:
        file.write('ress", "step": 2, "total": 8}\n')
    assert tail.poll()
    assert tail.latest == Progress(step=2, total=8, phase="train")
    assert not tail.poll()
    assert tail.bad_lines == 0


def test_lines_that_make_no_sense_are_counted_and_skipped(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    bad = [
        b"\xff\xfe",
        b"{}",
        b"[1]",
        b'{"type": "progress", "step": "many"}',
        b'{"type": "phase", "name": 1}',
        b"nul",
    ]
    events.write_bytes(
        b"\n".join(bad) + b"\n" + b"x" * (LINE_BYTES + 1) + b'\n{"type": "progress", "step": 5}\n'
    )
    tail = ProgressTail(events)
    tail.poll()
    assert tail.latest == Progress(step=5)
    assert tail.bad_lines == len(bad) + 1
