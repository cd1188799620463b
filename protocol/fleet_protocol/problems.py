"""Problems of a manifest in words that say what was found and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fleet_protocol.hyper import suggestion
from fleet_protocol.toml_lines import KeyPath


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """One problem: where it stands (line from 1, where it can be located) and what to do about it."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


def describe(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    """A schema's errors as key path and sentence, without the schema library's vocabulary."""
    for detail in error.errors(include_url=False, include_context=True):
        path = detail["loc"]
        yield path[:-1] if path[-1:] == ("[key]",) else path, _sentence(detail, root)


def _sentence(detail: ErrorDetails, root: type[BaseModel]) -> str:
    kind, found = detail["type"], _found(detail["input"])
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_at(root, detail["loc"][:-1])
        listed = f"; allowed here: {', '.join(known)}"
        return f"unknown key{suggestion(str(detail['loc'][-1]), known) or listed}"
    if kind == "missing":
        return "is required"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found}"
    if kind == "literal_error":
        return f"expected {context['expected']}, found {found}"
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return f"must be {words} {context[name]:g}, found {found}"
    if kind == "too_short":
        return f"needs at least {context['min_length']} entry, found none"
    if kind == "string_pattern_mismatch":
        return (
            f"not an allowed name: {found} (up to 200 characters, no control characters; models: a-z, 0-9, _)"
        )
    return f"{detail['msg']}, found {found}"


_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string in quotes",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "string_too_short": ("at least this many characters:", "min_length"),
    "string_too_long": ("at most this many characters:", "max_length"),
}


def _found(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _fields_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The names of the fields that the table at `path` may have."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _table_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _table_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for entry in get_args(annotation) if (found := _table_in(entry))), None)
