"""Hyper-parameters against the schema of their model.

The schemas are JSON, generated from the trainer's configuration classes and kept in `models.json`, so that a
manifest can be checked where neither the trainer nor torch is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

Schema = Mapping[str, object]
Path = tuple[str | int, ...]
BUILT_IN_MODELS = ("gbt", "mlp", "cnn", "gru", "lstm", "transformer", "transformer_ssl")


@cache
def built_in_schemas() -> Mapping[str, Schema]:
    """Model name to the JSON Schema of its `hyper` table."""
    schemas: Mapping[str, Schema] = json.loads(
        (files("fleet_protocol") / "models.json").read_text(encoding="utf-8")
    )
    return schemas


def suggestion(word: str, known: object) -> str:
    """`; did you mean 'x'?`, or the empty string when nothing known is close."""
    candidates = [str(entry) for entry in known] if isinstance(known, (list, tuple, set, Mapping)) else []
    close = get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def check_hyper(hyper: object, schema: Schema) -> Iterator[tuple[Path, str]]:
    """Each thing wrong with `hyper`: its key path below `hyper`, and what was found and what is allowed."""
    for error in _validator(json.dumps(schema)).iter_errors(cast("Any", hyper)):
        yield from _readable(error)


def schema_problems(schema: object) -> Iterator[tuple[Path, str]]:
    """Why `schema`, written by an operator, is not a JSON Schema that settings can safely be checked against."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    refused = list(_refused(schema, ()))
    yield from refused
    if not refused:
        try:
            Draft202012Validator.check_schema(cast("Any", schema))
        except SchemaError as error:
            yield tuple(error.absolute_path), f"not a JSON Schema: {error.message}"


_REFUSED = {
    # A reference could fetch from anywhere or never end; a regular expression could take years over one value.
    **dict.fromkeys(
        ("$ref", "$dynamicRef", "$recursiveRef", "$id"), "references are not allowed; write the schema out"
    ),
    **dict.fromkeys(
        ("pattern", "patternProperties"),
        "regular expressions are not allowed; list the allowed values with `enum`",
    ),
}
_NAMED = {"properties", "$defs", "definitions", "dependentSchemas"}
_VALUES = {"enum", "const", "default", "examples", "required", "dependentRequired"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _refused(schema: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Keywords that are refused, wherever a schema stands; settings and values may be called as they like."""
    if isinstance(schema, list):
        for index, entry in enumerate(schema):
            yield from _refused(entry, (*path, index))
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in _REFUSED:
            yield (*path, key), _REFUSED[key]
        elif key == "$schema" and value != DIALECT:
            yield (*path, key), f'must be "{DIALECT}", or left out'
        elif key in _NAMED and isinstance(value, dict):
            for name, entry in value.items():
                yield from _refused(entry, (*path, key, name))
        elif key not in _VALUES:
            yield from _refused(value, (*path, key))


@cache
def _validator(schema: str) -> Validator:
    from jsonschema import Draft202012Validator  # imported late: only a manifest needs it
    from jsonschema.validators import extend
    from referencing import Registry

    def is_integer(_: object, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)  # TOML tells 3 from 3.0, and so do we

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer)
    kind = cast("Any", extend)(Draft202012Validator, type_checker=checker)
    strict: Validator = kind(json.loads(schema), registry=Registry())  # an empty one: nothing is ever fetched
    return strict


def _readable(error: ValidationError) -> Iterator[tuple[Path, str]]:
    path, rule = tuple(error.absolute_path), cast("Any", error.validator_value)
    found = json.dumps(error.instance, default=str)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(cast("Any", error.schema).get("properties", {}))
        for key in error.instance:
            if key not in known:
                allowed = f"; it has {', '.join(known)}" if known else ""
                yield (*path, key), f"not a setting of this model{suggestion(key, known) or allowed}"
    elif error.validator == "type":
        yield path, f"expected {_type_words(rule)}, found {found}"
    elif error.validator == "enum":
        yield path, f"expected one of {', '.join(map(json.dumps, rule))}, found {found}"
    elif error.validator in _BOUNDS:
        yield path, f"must be {_BOUNDS[error.validator]} {rule}, found {found}"
    elif error.validator == "anyOf":
        words = dict.fromkeys(_type_words(entry.get("type", "another value")) for entry in rule)
        yield path, f"expected {' or '.join(words)}, found {found}"
    else:
        yield path, error.message


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}
_TYPES = {
    "boolean": "true or false",
    "null": "nothing",
    "object": "a table",
    "array": "a list",
    "number": "a number",
}


def _type_words(kind: object) -> str:
    kinds = kind if isinstance(kind, list) else [kind]
    return " or ".join(
        _TYPES.get(str(entry), "a whole number" if entry == "integer" else f"a {entry}") for entry in kinds
    )
