"""Hyper-parameters against a schema: each thing wrong, with what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from referencing.exceptions import Unresolvable

from fleet_protocol.hyper import (
    BUILT_IN_MODELS,
    Schema,
    built_in_schemas,
    check_hyper,
    schema_problems,
    suggestion,
)

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "epochs": {"type": "integer", "minimum": 1, "maximum": 1000},
        "lr": {"type": "number", "exclusiveMinimum": 0},
        "kind": {"enum": ["a", "b"]},
        "shuffle": {"type": "boolean"},
        "clip": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "sizes": {"type": "array", "items": {"type": "integer"}},
    },
}


@pytest.mark.parametrize(
    ("hyper", "path", "message"),
    [
        ({"epochs": 0}, ("epochs",), "must be at least 1, found 0"),
        ({"epochs": 1001}, ("epochs",), "must be at most 1000, found 1001"),
        ({"epochs": 1.0}, ("epochs",), "expected a whole number, found 1.0"),
        ({"epochs": True}, ("epochs",), "expected a whole number, found true"),
        ({"epochs": "5"}, ("epochs",), 'expected a whole number, found "5"'),
        ({"lr": 0}, ("lr",), "must be more than 0, found 0"),
        ({"lr": False}, ("lr",), "expected a number, found false"),
        ({"kind": "c"}, ("kind",), 'expected one of "a", "b", found "c"'),
        ({"shuffle": 1}, ("shuffle",), "expected true or false, found 1"),
        ({"clip": "x"}, ("clip",), 'expected a number or nothing, found "x"'),
        ({"sizes": [1, 2.5]}, ("sizes", 1), "expected a whole number, found 2.5"),
        ({"epohcs": 5}, ("epohcs",), "not a setting of this model; did you mean `epochs`?"),
        (
            {"zzz": 5},
            ("zzz",),
            "not a setting of this model; it has clip, epochs, kind, lr, shuffle, sizes",
        ),
    ],
)
def test_each_mistake(hyper: dict[str, Any], path: tuple[str | int, ...], message: str):
    assert list(check_hyper(hyper, SCHEMA)) == [(path, message)]


def test_all_mistakes_at_once():
    wrong = {"epochs": 0, "lr": "x", "one": 1, "two": 2}
    assert {path for path, _ in check_hyper(wrong, SCHEMA)} == {("epochs",), ("lr",), ("one",), ("two",)}


def test_what_is_allowed():
    right = {"epochs": 1, "lr": 1, "kind": "a", "shuffle": True, "clip": 0.5, "sizes": []}
    assert list(check_hyper(right, SCHEMA)) == []
    assert list(check_hyper({}, SCHEMA)) == []


def test_every_built_in_model_has_a_schema_that_takes_nothing_unknown():
    assert set(built_in_schemas()) == set(BUILT_IN_MODELS)
    for name, schema in built_in_schemas().items():
        assert list(check_hyper({}, schema)) == [], name
        assert [path for path, _ in check_hyper({"nonsense": 1}, schema)] == [("nonsense",)], name


def test_suggestions():
    assert suggestion("prioritty", ["priority", "name"]) == "; did you mean `priority`?"
    assert suggestion("zzz", ["priority"]) == suggestion("x", None) == ""


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        ({"$ref": "http://127.0.0.1:9/x"}, ("$ref",), "references are not allowed; write the schema out"),
        ({"$ref": "#"}, ("$ref",), "references are not allowed"),
        ({"properties": {"a": {"$dynamicRef": "#a"}}}, ("properties", "a", "$dynamicRef"), "references"),
        ({"$id": "http://127.0.0.1:9/x"}, ("$id",), "references"),
        ({"anyOf": [{"pattern": "(a+)+$"}]}, ("anyOf", 0, "pattern"), "list the allowed values with `enum`"),
        ({"patternProperties": {"(a+)+$": {}}}, ("patternProperties",), "`enum`"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, ("$schema",), "or left out"),
        ({"type": "nothing"}, ("type",), "not a JSON Schema"),
    ],
)
def test_an_own_schema_neither_refers_nor_searches(schema: Schema, path: tuple[str | int, ...], words: str):
    ((where, message),) = schema_problems(schema)
    assert where == path
    assert words in message


def test_settings_may_be_called_like_keywords():
    schema = {"properties": {"pattern": {"enum": ["$ref"]}, "properties": {"const": {"$ref": "x"}}}}
    assert list(schema_problems(schema)) == []


def test_a_reference_is_never_fetched(tmp_path: Path):
    there = tmp_path / "schema.json"
    there.write_text("{}")
    with pytest.raises(Unresolvable):
        list(check_hyper({}, {"$ref": there.as_uri()}))
