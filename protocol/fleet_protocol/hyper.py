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


def require_schema(schema: Schema) -> None:
    """SchemaError (of jsonschema) unless `schema` is a JSON Schema."""
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(cast("Any", schema))


@cache
def _validator(schema: str) -> Validator:
    from jsonschema import Draft202012Validator  # imported late: only a manifest needs it
    from jsonschema.validators import extend

    def is_integer(_: object, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)  # TOML tells 3 from 3.0, and so do we

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer)
    strict: Validator = cast("Any", extend)(Draft202012Validator, type_checker=checker)(json.loads(schema))
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
