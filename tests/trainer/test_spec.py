"""What is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet_trainer.errors import SpecRefused
from fleet_trainer.spec import read_spec
from tests.trainer.synthetic import job_spec, spec_json

REFUSED = [
    ({"hyper": {"epohcs": 3}}, "hyper.epohcs is not a setting of cnn; did you mean epochs?"),
    ({"hyper": {"colour": 3}}, "hyper.colour is not a setting of cnn; it knows batch_size, class_weight,"),
    ({"hyper": {"epochs": "30"}}, "hyper.epochs: input should be a valid integer, found '30'"),
    ({"hyper": {"epochs": 0}}, "hyper.epochs: input should be greater than or equal to 1, found 0"),
    ({"hyper": {"lr": -1.0}}, "hyper.lr: input should be greater than 0, found -1.0"),
    ({"hyper": {"lr": float("nan")}}, "hyper.lr: input should be a finite number, found nan"),
    ({"model": "ccn"}, "model ccn is not built in; did you mean cnn?"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_a_wrong_setting_is_named_with_what_was_found(change, words):
    with pytest.raises(SpecRefused) as refused:
        job_spec(**{"model": "cnn", "hyper": {}} | change).settings()
    assert str(refused.value).startswith(words)


def test_every_problem_is_named_at_once():
    with pytest.raises(SpecRefused) as refused:
        job_spec("cnn", hyper={"epohcs": 3, "lr": 7, "width": 1}).settings()
    assert str(refused.value).count("; ") == 3  # three problems and one suggestion


def test_defaults_are_filled_in_and_an_integer_serves_as_a_float():
    assert job_spec("cnn", hyper={"lr": 1}).settings().model_dump()["lr"] == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "input should be a valid dictionary"),
        (json.dumps(spec_json(seed="7")), "seed: input should be a valid integer, found '7'"),
        (
            json.dumps(spec_json(mode="oracel")),
            "mode: input should be 'realistic' or 'oracle', found 'oracel'",
        ),
        (json.dumps(spec_json(schema=2)), "schema: input should be 1, found 2"),
        (json.dumps({k: v for k, v in spec_json().items() if k != "model"}), "model is missing"),
    ],
)
def test_a_wrong_spec_file_is_refused(tmp_path: Path, text, words):
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(SpecRefused) as refused:
        read_spec(path)
    assert words in str(refused.value)


def test_a_missing_spec_file_is_refused(tmp_path: Path):
    with pytest.raises(SpecRefused, match="No such file"):
        read_spec(tmp_path / "none.json")
