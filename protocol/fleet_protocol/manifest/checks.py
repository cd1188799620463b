"""What a schema of tables cannot say: names that must exist, values that JSON must carry, settings of models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fleet_protocol.hyper import (
    BUILT_IN_MODELS,
    Schema,
    built_in_schemas,
    check_hyper,
    schema_problems,
    suggestion,
)
from fleet_protocol.ids import JobId
from fleet_protocol.jobs import JobSpec
from fleet_protocol.manifest.document import Document
from fleet_protocol.manifest.expand import Contents, Point, grid
from fleet_protocol.placeholders import PLACEHOLDERS, names
from fleet_protocol.toml_lines import KeyPath
from fleet_protocol.wire import MAX_INTEGER

Problem = tuple[KeyPath, str]
Raw = Mapping[str, object]
SINGLE = {"$schema", "title", "description", "type", "properties", "required", "additionalProperties"}
"""Keywords of a JSON Schema under which no setting's value decides whether another's is right."""
MAX_JOBS = 100_000
MAX_DEPTH = 24


def unreadable(raw: Raw) -> Iterator[Problem]:
    """Values that no other check could go through: nested beyond its recursion, or numbers beyond TOML's own."""
    rest: list[tuple[object, KeyPath]] = [(raw, ())]
    while rest:
        value, path = rest.pop()
        if isinstance(value, (dict, list)) and len(path) >= MAX_DEPTH:
            yield path, f"nested too deeply; at most {MAX_DEPTH} levels are allowed"
        elif isinstance(value, (dict, list)):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            rest.extend((entry, (*path, key)) for key, entry in entries)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield path, "a whole number must fit into 64 bits"


def unfit_values(raw: Raw) -> Iterator[Problem]:
    """Values in `hyper` and `matrix` that JSON, and so a job's identity, cannot carry."""
    for name, entry in _table(raw, "models").items():
        if isinstance(entry, dict):
            yield from _unfit(entry.get("hyper", {}), ("models", name, "hyper"))
    for index, job in _jobs(raw):
        for key in ("hyper", "matrix"):
            yield from _unfit(job.get(key, {}), ("jobs", index, key))


def unknown_names(raw: Raw) -> Iterator[Problem]:
    """Models and datasets that are used and not declared, and declarations that cannot be."""
    models, datasets = _table(raw, "models"), _table(raw, "datasets")
    known = (*BUILT_IN_MODELS, *models)
    for name in models:
        if name in BUILT_IN_MODELS:
            yield ("models", name), f"{name!r} is a built-in model; give yours another name"
    for index, job in _jobs(raw):
        yield from _unknown(job.get("model"), ("jobs", index, "model"), "model", known)
        yield from _unknown(job.get("dataset"), ("jobs", index, "dataset"), "dataset", tuple(datasets))
    for host, policy in _table(raw, "hosts").items():
        for key in ("allow_jobs", "deny_jobs"):
            listed = policy.get(key) if isinstance(policy, dict) else None
            for position, model in enumerate(listed if isinstance(listed, list) else ()):
                yield from _unknown(model, ("hosts", host, key, position), "model", known)


def outputs_elsewhere(raw: Raw) -> Iterator[Problem]:
    """Outputs that no program writes into its working directory."""
    for name, entry in _table(raw, "models").items():
        listed = entry.get("outputs") if isinstance(entry, dict) else None
        for position, pattern in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(pattern, str) and (pattern.startswith("/") or ".." in pattern.split("/")):
                words = f"{pattern!r} leads out of the working directory; outputs are named from there"
                yield ("models", name, "outputs", position), words


def hyper_problems(raw: Raw) -> Iterator[Problem]:
    """Settings that the model does not declare or does not allow, at every point of a matrix."""
    schemas: dict[str, Schema] = dict(built_in_schemas())
    for name, entry in _table(raw, "models").items():
        schema = entry.get("hyper") if isinstance(entry, dict) else None
        if isinstance(schema, dict) and not any(_unfit(schema, ())):
            wrong = list(schema_problems(schema))
            yield from ((("models", name, "hyper", *path), message) for path, message in wrong)
            if not wrong:
                schemas[name] = schema
    for index, job in _jobs(raw):
        schema = schemas.get(str(job.get("model")))
        if schema is not None:
            yield from _against(schema, job, index)
        yield from _missing_placeholders(raw, job, index)


def _against(schema: Schema, job: Raw, index: int) -> Iterator[Problem]:
    hyper, matrix = job.get("hyper", {}), job.get("matrix", {})
    if not isinstance(hyper, dict) or not isinstance(matrix, dict):
        return  # their types are already reported
    if not all(isinstance(values, list) and values for values in matrix.values()):
        return
    if math.prod(len(values) for values in matrix.values()) > MAX_JOBS:
        return  # too many; reported once, for the whole manifest
    for key in matrix:
        if key in hyper:
            yield ("jobs", index, "matrix", key), "is given in `hyper` too; keep one of them"
    for point in _telling(matrix, schema):
        for path, message in check_hyper({**hyper, **point}, schema):
            table = "matrix" if path and path[0] in point else "hyper"
            yield ("jobs", index, table, *path), message


def _telling(matrix: dict[str, list[object]], schema: Schema) -> Iterator[Point]:
    """The points that show every problem: each value once, where the schema judges each setting by itself."""
    first = {key: values[0] for key, values in matrix.items()}
    if not schema.keys() <= SINGLE or not matrix:
        yield from grid(matrix)
    else:
        yield from ({**first, key: value} for key, values in matrix.items() for value in values)


def too_many_jobs(document: Document) -> Iterator[Problem]:
    count = sum(math.prod(len(values) for values in entry.matrix.values()) for entry in document.jobs)
    if count > MAX_JOBS:
        yield ("jobs",), f"means {count} jobs; at most {MAX_JOBS} are allowed"


def _missing_placeholders(raw: Raw, job: Raw, index: int) -> Iterator[Problem]:
    """`{hyper.lr}` in a command, and no `lr` in the job."""
    entry = _table(raw, "models").get(str(job.get("model")))
    command = entry.get("command") if isinstance(entry, dict) else None
    given = {**_table(job, "hyper"), **_table(job, "matrix")}
    for word in command if isinstance(command, list) else ():
        for name in names(word) if isinstance(word, str) else ():
            kind, _, key = name.partition(".")
            if kind == "hyper" and key and key not in given:
                near = suggestion(key, given)
                yield ("jobs", index, "hyper"), f"the command of {job.get('model')} needs `{key}`{near}"
            elif kind != "hyper" and name not in PLACEHOLDERS:
                known = (*PLACEHOLDERS, *(f"hyper.{key}" for key in given))
                near = suggestion(name, known) or f"; there are {', '.join((*PLACEHOLDERS, 'hyper.KEY'))}"
                yield (
                    ("models", str(job.get("model")), "command"),
                    f"unknown placeholder {{{name}}}{near} (a brace of the text itself is written twice)",
                )


def missing_contents(raw: Raw, contents: Contents, reasons: Mapping[str, str]) -> Iterator[Problem]:
    """Datasets and sources whose content nobody could read."""
    for kind, key in (("datasets", "path"), ("models", "source")):
        for name, entry in _table(raw, kind).items():
            path = entry.get(key) if isinstance(entry, dict) else None
            if isinstance(path, str) and path not in contents:
                nothing = f"there is nothing at {path!r}, seen from the manifest's folder"
                yield (kind, name, key), f"{path!r}: {reasons[path]}" if path in reasons else nothing


def same_id(jobs: list[tuple[int, JobSpec]]) -> Iterator[Problem]:
    first: dict[JobId, JobSpec] = {}
    for index, job in jobs:
        twin = first.setdefault(job.job_id, job)
        if twin is not job:
            yield (
                ("jobs", index, "name"),
                f"{job.name!r} would train the same thing as {twin.name!r} (both are job {job.job_id}): "
                "remove one, or let them differ in model, mode, hyper, split_recipe, train_hosts, seed or dataset",
            )


def _table(raw: Raw, key: str) -> Mapping[str, object]:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def _jobs(raw: Raw) -> Iterator[tuple[int, Raw]]:
    jobs = raw.get("jobs")
    if isinstance(jobs, list):
        yield from ((index, job) for index, job in enumerate(jobs) if isinstance(job, dict))


def _unfit(value: object, path: KeyPath) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _unfit(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _unfit(entry, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"must be a finite number, found {value}"
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        yield path, f"must be within ±2^53, found {value}"
    elif not isinstance(value, (str, int, float, bool)):
        yield path, f"dates and times are not allowed in hyper, found {value}; write it as a string"


def _unknown(name: object, path: KeyPath, what: str, known: tuple[str, ...]) -> Iterator[Problem]:
    if isinstance(name, str) and name not in known:
        there_are = f"; there are {', '.join(known)}" if known else "; declare it"
        yield path, f"there is no {what} {name!r}{suggestion(name, known) or there_are}"
