"""The schemas that manifests are checked with are the trainer's own, and agree with what it accepts."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest

from fleet_protocol.hyper import check_hyper
from fleet_trainer.errors import SpecRefused
from fleet_trainer.models import MODELS, schemas
from tests.trainer.synthetic import job_spec

HEAVY = {"torch", "lightgbm", "numpy", "polars", "safetensors"}
SETTINGS = [(model, key) for model in MODELS for key in MODELS[model].model_fields]


def test_the_stored_schemas_are_what_fleet_train_prints():
    printed = subprocess.run(
        [sys.executable, "-m", "fleet_trainer", "schemas"], capture_output=True, text=True, check=True
    ).stdout
    assert (files("fleet_protocol") / "models.json").read_text("utf-8") == printed
    assert list(json.loads(printed)) == sorted(MODELS)


def test_the_command_line_loads_no_numerical_library():
    script = "import sys, fleet_trainer.cli; fleet_trainer.models.schemas(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())


@pytest.mark.parametrize(("model", "key"), SETTINGS)
def test_schema_and_trainer_refuse_the_same_values(model, key):
    schema = json.loads(json.dumps(schemas()[model]))
    rules = schema["properties"][key]
    for value in [*_outside(rules), True, None, [1]]:
        assert list(check_hyper({key: value}, schema)), value
        with pytest.raises(SpecRefused, match=f"hyper.{key}"):
            job_spec(model, hyper={key: value}).settings()
    right = {key: rules["default"]}
    assert not list(check_hyper(right, schema))
    assert job_spec(model, hyper=right).settings() == MODELS[model]()


def _outside(rules: dict[str, Any]) -> list[object]:
    """Values just beyond what is allowed, and of other types."""
    if "enum" in rules:
        return ["", "other", 1]
    step = 1 if rules["type"] == "integer" else 1e-6
    low = rules["minimum"] - step if "minimum" in rules else rules["exclusiveMinimum"]
    high = rules["maximum"] + step if "maximum" in rules else rules["exclusiveMaximum"]
    return [low, high, "3"] + ([1.0] if rules["type"] == "integer" else [])
