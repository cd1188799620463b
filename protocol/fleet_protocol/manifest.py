"""The manifest: which hosts exist and what each may run, and which jobs are wanted. Schema version 1.

Loading is strict and complete: every problem is reported at once, with file, line and key, what was found and
what is allowed. Nothing is queued from a manifest with a problem.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fleet_protocol.hyper import BUILT_IN_MODELS, built_in_schemas, check_hyper, suggestion
from fleet_protocol.ids import JobId, job_id
from fleet_protocol.jobs import JobSpec, Mode, Needs, SplitRecipe
from fleet_protocol.plan import MAX_MANIFEST_CHARS
from fleet_protocol.problems import ManifestProblem, describe
from fleet_protocol.toml_lines import KeyPath, Lines, locate
from fleet_protocol.wire import MAX_INTEGER

SYSTEM_MANIFEST = Path("/etc/fleet/training_manifest.toml")
LOCAL_MANIFEST = Path("training_manifest.toml")
DEFAULT_TRAIN_HOSTS = ("elliott-thinkpad",)

Name = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
Model = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Gib = Annotated[float, Field(ge=0, le=1_000_000)]
Cores = Annotated[int, Field(ge=0, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Resamples = Annotated[int, Field(ge=1, le=1_000_000)]
TrainHosts = Annotated[list[Name], Field(min_length=1)]


class Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class HostPolicy(Table):
    """What a host may run. An empty allow list allows every model; deny wins."""

    description: str = ""
    priority: Priority = 0
    allow_jobs: list[Model] = []
    deny_jobs: list[Model] = []

    def refuses(self, model: str) -> str | None:
        """The rule that keeps `model` from this host, or None."""
        if model in self.deny_jobs:
            return f"deny_jobs = {self.deny_jobs}"
        if self.allow_jobs and model not in self.allow_jobs:
            return f"allow_jobs = {self.allow_jobs}"
        return None


class Defaults(Table):
    """Values for jobs that do not say otherwise."""

    split_recipe: SplitRecipe = "host"
    min_ram_gib: Gib = 4
    min_cores: Cores = 1
    train_hosts: TrainHosts = list(DEFAULT_TRAIN_HOSTS)
    seed: Seed = 0
    n_resamples: Resamples = 1000


class JobEntry(Table):
    """One `[[jobs]]` table as written."""

    name: Name
    model: Model
    mode: Mode = "realistic"
    priority: Priority = 0
    require_cuda: bool = False
    prefer_cuda: bool = False
    min_vram_gib: Gib = 0
    min_ram_gib: Gib | None = None
    min_cores: Cores | None = None
    allowed_hosts: list[Name] = []
    denied_hosts: list[Name] = []
    hyper: dict[str, object] = {}
    split_recipe: SplitRecipe | None = None
    train_hosts: TrainHosts | None = None
    seed: Seed | None = None
    n_resamples: Resamples | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3


class Document(Table):
    """The whole file as written."""

    schema_version: Annotated[int, Field(ge=1, le=1)]  # a Literal would take true and 1.0 for it
    name: Name = "training-fleet"
    defaults: Defaults = Defaults()
    hosts: dict[str, HostPolicy] = {}
    jobs: Annotated[list[JobEntry], Field(min_length=1)]


class ManifestError(Exception):
    """The manifest has problems; all of them are in `problems`."""

    def __init__(self, problems: tuple[ManifestProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that holds: every default filled in, every id computed."""

    name: str
    hosts: Mapping[str, HostPolicy]
    jobs: tuple[JobSpec, ...]


def find_manifest(explicit: Path | None = None) -> Path:
    """`explicit`, else the machine's manifest, else the one in this folder; the last even if it is missing."""
    if explicit is not None:
        return explicit
    return SYSTEM_MANIFEST if SYSTEM_MANIFEST.exists() else LOCAL_MANIFEST


def load(path: Path) -> Manifest:
    """Read and check the manifest at `path`; ManifestError with every problem, also where it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise _only(
            str(path), "there is no such file; name one, or write training_manifest.toml here"
        ) from None
    except UnicodeDecodeError as error:
        raise _only(str(path), f"not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise _only(str(path), f"cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: str, file: str = "manifest") -> Manifest:
    """Check a manifest's text. `file` is only named in problems."""
    if len(text) > MAX_MANIFEST_CHARS:
        raise _only(file, f"too large: {len(text)} characters, at most {MAX_MANIFEST_CHARS} are allowed")
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise _only(file, "nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        raise _only(file, f"not valid TOML: {error}", int(place[1]) if place else None) from None
    document, problems = _validate(raw)
    problems += _model_problems(raw)
    unfit = list(_unfit_hyper(raw))
    problems += unfit
    problems += _hyper_problems(raw, {path for path, _ in unfit})
    jobs: tuple[JobSpec, ...] = ()
    if document and not unfit:
        jobs = tuple(_resolve(entry, document.defaults) for entry in document.jobs)
        problems += _same_id(jobs)
    if problems or document is None:
        lines = locate(text)
        raise ManifestError(
            tuple(sorted({_placed(file, lines, *problem) for problem in problems}, key=_order))
        )
    return Manifest(name=document.name, hosts=document.hosts, jobs=jobs)


def _validate(raw: Mapping[str, object]) -> tuple[Document | None, list[tuple[KeyPath, str]]]:
    try:
        return Document.model_validate(raw), []
    except ValidationError as error:
        return None, list(describe(error, Document))


def _resolve(entry: JobEntry, defaults: Defaults) -> JobSpec:
    given = {**defaults.model_dump(), **entry.model_dump(exclude_none=True)}
    return JobSpec(
        **{
            key: given[key]
            for key in ("name", "model", "mode", "hyper", "split_recipe", "seed", "n_resamples")
        },
        job_id=identify(entry.model, entry.mode, entry.hyper, given),
        train_hosts=tuple(given["train_hosts"]),
        priority=entry.priority,
        max_attempts=entry.max_attempts,
        needs=Needs(**{key: given[key] for key in Needs.model_fields}),
    )


def identify(model: str, mode: str, hyper: Mapping[str, object], given: Mapping[str, object]) -> JobId:
    """The id of a job from exactly what is trained; `given` has split_recipe, train_hosts and seed."""
    rest = {key: given[key] for key in ("split_recipe", "train_hosts", "seed")}
    return job_id({"model": model, "mode": mode, "hyper": dict(hyper), **rest})


def _tables(raw: Mapping[str, object]) -> Iterator[tuple[int, Mapping[str, object]]]:
    jobs = raw.get("jobs")
    if isinstance(jobs, list):
        yield from ((index, job) for index, job in enumerate(jobs) if isinstance(job, dict))


def _unfit_hyper(raw: Mapping[str, object]) -> Iterator[tuple[KeyPath, str]]:
    """Values in `hyper` that JSON, and so a job's identity, cannot carry."""
    for index, job in _tables(raw):
        yield from _unfit(job.get("hyper", {}), ("jobs", index, "hyper"))


def _hyper_problems(raw: Mapping[str, object], known_unfit: set[KeyPath]) -> Iterator[tuple[KeyPath, str]]:
    """Settings that the model does not declare or does not allow."""
    for index, job in _tables(raw):
        hyper, schema = job.get("hyper", {}), built_in_schemas().get(str(job.get("model")))
        if schema is not None and isinstance(hyper, dict):
            for path, message in check_hyper(hyper, schema):
                place: KeyPath = ("jobs", index, "hyper", *path)
                if place not in known_unfit:
                    yield place, message


def _unfit(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _unfit(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _unfit(entry, (*path, index))
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        yield path, f"must be a finite number, found {value}"
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        yield path, f"must be within ±2^53, found {value}"
    elif not isinstance(value, (str, int, float, bool)):
        yield path, f"dates and times are not allowed in hyper, found {value}; write it as a string"


def _model_problems(raw: Mapping[str, object]) -> Iterator[tuple[KeyPath, str]]:
    for index, job in _tables(raw):
        yield from _unknown_model(job.get("model"), ("jobs", index, "model"))
    hosts = raw.get("hosts")
    for host, policy in hosts.items() if isinstance(hosts, dict) else ():
        for key in ("allow_jobs", "deny_jobs"):
            listed = policy.get(key) if isinstance(policy, dict) else None
            for position, model in enumerate(listed if isinstance(listed, list) else ()):
                yield from _unknown_model(model, ("hosts", host, key, position))


def _unknown_model(model: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(model, str) and model not in BUILT_IN_MODELS:
        known = ", ".join(BUILT_IN_MODELS)
        yield (
            path,
            f"there is no model {model!r}{suggestion(model, BUILT_IN_MODELS) or f'; there are {known}'}",
        )


def _same_id(jobs: tuple[JobSpec, ...]) -> Iterator[tuple[KeyPath, str]]:
    first: dict[JobId, JobSpec] = {}
    for index, job in enumerate(jobs):
        twin = first.setdefault(job.job_id, job)
        if twin is not job:
            yield (
                ("jobs", index, "name"),
                f"{job.name!r} would train the same thing as {twin.name!r} (both are job {job.job_id}): "
                "remove one, or let them differ in model, mode, hyper, split_recipe, train_hosts or seed",
            )


def _only(file: str, message: str, line: int | None = None) -> ManifestError:
    return ManifestError((ManifestProblem(file=file, line=line, key="", message=message),))


def _placed(file: str, lines: Lines, path: KeyPath, message: str) -> ManifestProblem:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return ManifestProblem(file=file, line=lines.of(path), key=key, message=message)


def _order(problem: ManifestProblem) -> tuple[int, str, str]:
    return (problem.line or 0, problem.key, problem.message)
