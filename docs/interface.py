"""Which changes of an OpenAPI document break a program that was written against the older one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
METHODS = ("get", "put", "post", "patch", "delete", "head")


def breaking(old: Schema, new: Schema) -> list[str]:
    """What the new document takes away or newly demands; empty where every older program goes on working."""
    found = [*_paths(old, new)]
    asked, told = _reached(old, "requestBody"), _reached(old, "responses")
    for name, schema in old.get("components", {}).get("schemas", {}).items():
        after = new["components"]["schemas"].get(name)
        if after is None:
            found.append(f"schema {name} is gone")
            continue
        found += _taken_away(name, schema, after) if name in told else []
        found += _demanded(name, schema, after) if name in asked else []
    return found


def _paths(old: Schema, new: Schema) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method in (one for one in methods if one in METHODS):
            before, after = methods[method], new["paths"].get(path, {}).get(method)
            call = f"{method.upper()} {path}"
            if after is None:
                yield f"{call} is gone"
                continue
            if before.get("operationId") != after.get("operationId"):
                yield f"{call} is called {after.get('operationId')} now"
            known = {(one["in"], one["name"]): one for one in before.get("parameters", [])}
            given = {(one["in"], one["name"]): one for one in after.get("parameters", [])}
            yield from (f"{call} takes no {name} any more" for _, name in known.keys() - given.keys())
            for key, one in given.items():
                if one.get("required") and not known.get(key, {}).get("required"):
                    yield f"{call} demands {key[1]}"
            kinds = {code for code in before.get("responses", {}) if code.startswith("2")}
            yield from (f"{call} never answers {code} any more" for code in kinds - after["responses"].keys())


def _taken_away(name: str, old: Schema, new: Schema) -> Iterator[str]:
    after = new.get("properties", {})
    for key, schema in old.get("properties", {}).items():
        if key not in after:
            yield f"{name}.{key} is gone"
        elif key in old.get("required", ()) and key not in new.get("required", ()):
            yield f"{name}.{key} may be absent"
        elif schema.get("type") != after[key].get("type"):
            yield f"{name}.{key} is {after[key].get('type')}, was {schema.get('type')}"


def _demanded(name: str, old: Schema, new: Schema) -> Iterator[str]:
    yield from (
        f"{name}.{key} is demanded" for key in {*new.get("required", ())} - {*old.get("required", ())}
    )
    yield from (
        f"{name}.{key} is not taken any more"
        for key in {*old.get("properties", {})} - {*new.get("properties", {})}
    )
    yield from (
        f"{name} is never {value!r} any more" for value in {*old.get("enum", ())} - {*new.get("enum", ())}
    )


def _reached(document: Schema, side: str) -> set[str]:
    """Names of the schemas that the requests, or the answers, are made of."""
    schemas = document.get("components", {}).get("schemas", {})
    to_do = [
        call[side] for methods in document["paths"].values() for call in methods.values() if side in call
    ]
    reached: set[str] = set()
    while to_do:
        for name in {*_references(to_do.pop())} - reached:
            reached.add(name)
            to_do.append(schemas.get(name, {}))
    return reached


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
