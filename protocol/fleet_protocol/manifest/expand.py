"""From a job as written to the jobs it means: the grid of its matrix, the defaults, the ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product

from fleet_protocol.ids import JobId, Sha256, job_id
from fleet_protocol.jobs import Dataset, JobSpec, Needs, Program
from fleet_protocol.manifest.document import Document, JobEntry

Point = dict[str, object]
Contents = Mapping[str, Sha256]
"""Path as written in the manifest to the SHA-256 of what is there."""


def grid(matrix: Mapping[str, list[object]]) -> Iterator[Point]:
    """Every combination of the matrix's values, the last key moving fastest; one empty point without a matrix."""
    for values in product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def grid_name(name: str, point: Point) -> str:
    """`name/lr=0.1,depth=3`."""
    words = (f"{_word(key)}={_word(value)}" for key, value in point.items())
    return f"{name}/{','.join(words)}" if point else name


def _word(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def specifications(document: Document, contents: Contents) -> Iterator[tuple[int, JobSpec]]:
    """Each job that the document means, with the index of the entry it comes from."""
    defaults = document.defaults.model_dump()
    for index, entry in enumerate(document.jobs):
        yield from ((index, spec) for spec in _resolve(document, defaults, entry, contents))


def _resolve(
    document: Document, defaults: Mapping[str, object], entry: JobEntry, contents: Contents
) -> Iterator[JobSpec]:
    """Each job of one entry; what the points of its matrix share is made once."""
    given = {**defaults, **entry.model_dump(exclude_none=True, exclude={"matrix"})}
    dataset, program = _dataset(document, entry, contents), _program(document, entry, contents)
    found = {"dataset": dataset and dataset.sha256, "source": program and program.source}
    digests = {key: digest for key, digest in found.items() if digest}
    shared = {key: given[key] for key in JobSpec.model_fields if key in given}
    shared |= {"needs": Needs.model_validate(given), "dataset": dataset, "program": program}
    for point in grid(entry.matrix):
        hyper = {**entry.hyper, **point}
        identity = _identify({**given, "hyper": hyper}, digests)
        name = grid_name(entry.name, point)
        yield JobSpec.model_validate({**shared, "job_id": identity, "hyper": hyper, "name": name})


def _identify(given: Mapping[str, object], digests: Mapping[str, str]) -> JobId:
    """The id from exactly what is trained: `hyper` as written, defaults of the model not filled in."""
    keys = ("model", "mode", "hyper", "split_recipe", "train_hosts", "seed")
    return job_id({**{key: given[key] for key in keys}, **digests})


def _dataset(document: Document, entry: JobEntry, contents: Contents) -> Dataset | None:
    table = document.datasets.get(entry.dataset) if entry.dataset else None
    if table is None or entry.dataset is None or table.path not in contents:
        return None  # its absence is reported by the checks
    return Dataset(name=entry.dataset, sha256=contents[table.path])


def _program(document: Document, entry: JobEntry, contents: Contents) -> Program | None:
    table = document.models.get(entry.model)
    if table is None:
        return None
    source = contents.get(table.source) if table.source else None
    return Program(command=tuple(table.command), source=source, outputs=tuple(table.outputs))
