"""What a trainer calls its metrics: every one that is a metric counts, and none of the rest ends a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet_agent.results import read_metrics
from fleet_agent.state import AttemptFolder, Record
from fleet_protocol.ids import AttemptId
from fleet_protocol.workers import CompleteRequest
from tests.agent.coordinator import job_spec

GOOD = '"accuracy": {"value": 0.5}'
ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'{{"metrics": {{{GOOD}, "loss": {{"value": NaN}}, "f1": {{"value": 0.1}}}}}}', ["accuracy", "f1"]),
        (f'{{"metrics": {{"loss": 0.3, {GOOD}}}}}', ["accuracy"]),
        (f'{{"metrics": {{"\\ud800": {{"value": 1}}, {GOOD}}}}}', ["accuracy"]),
        (f'{{"metrics": {{"{"x" * 81}": {{"value": 1}}, {GOOD}}}}}', ["accuracy"]),
        (
            json.dumps({"metrics": {f"m{n}": {"value": n} for n in range(300)}}),
            [f"m{n}" for n in range(200)],
        ),
        ('{"metrics": [1]}', []),
        ('{"accuracy": 0.5}', []),
        ("accuracy = 0.5", []),
        ("\xff", []),
        ("[" * 100_000, []),
    ],
    ids=lambda case: str(case)[:40],
)
def test_what_is_no_metric_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, names: list[str]
) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "metrics.json").write_bytes(text.encode("latin-1"))
    record = Record(job=job_spec("mine"), attempt=ATTEMPT, number=1, boot_id=None)
    (tmp_path / "log").write_text("no newline")
    metrics = read_metrics(AttemptFolder(tmp_path, record))
    assert read_metrics(AttemptFolder(tmp_path, record)) == metrics  # by an agent after one that was killed
    assert list(metrics) == names
    assert "of metrics.json left out" in "".join(capsys.readouterr())
    printed, told = (tmp_path / "log").read_text().splitlines()
    assert printed == "no newline"
    assert "of metrics.json left out" in told
    made = CompleteRequest.model_validate(
        {"worker": ATTEMPT, "attempt": ATTEMPT, "artifact": "0" * 64, "metrics": metrics}
    )
    assert CompleteRequest.model_validate_json(made.model_dump_json()).metrics == metrics
