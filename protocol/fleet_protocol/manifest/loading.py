"""Reading a manifest: parse, check everything, and only then make the jobs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fleet_protocol.archive import NotArchived, content_digest
from fleet_protocol.ids import Sha256
from fleet_protocol.jobs import JobSpec
from fleet_protocol.manifest import checks
from fleet_protocol.manifest.document import DEFAULT_TRAIN_HOSTS, Document, HostPolicy
from fleet_protocol.manifest.expand import Contents, specifications
from fleet_protocol.plan import MAX_MANIFEST_CHARS
from fleet_protocol.problems import ManifestProblem, describe
from fleet_protocol.toml_lines import KeyPath, Lines, locate

SYSTEM_MANIFEST = Path("/etc/fleet/training_manifest.toml")
LOCAL_MANIFEST = Path("training_manifest.toml")
BYTE_ORDER_MARK = "\ufeff"  # Windows editors put it in front
__all__ = [
    "DEFAULT_TRAIN_HOSTS",
    "Manifest",
    "ManifestError",
    "contents",
    "find_manifest",
    "load",
    "parse",
    "read_text",
]


class ManifestError(Exception):
    """The manifest has problems; all of them are in `problems`."""

    def __init__(self, problems: tuple[ManifestProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that holds: every matrix multiplied, every default filled in, every id computed."""

    name: str
    hosts: Mapping[str, HostPolicy]
    jobs: tuple[JobSpec, ...]
    contents: Contents
    """What its data sets and sources are, by path as written."""


def find_manifest(explicit: Path | None = None) -> Path:
    """`explicit`, else the machine's manifest, else the one in this folder; the last even if it is missing."""
    if explicit is not None:
        return explicit
    return SYSTEM_MANIFEST if SYSTEM_MANIFEST.exists() else LOCAL_MANIFEST


def load(path: Path, text: str | None = None) -> Manifest:
    """Read and check the manifest at `path`; ManifestError with every problem, also where it cannot be read.

    `text`: what was read there before, by `read_text`.
    """
    text = read_text(path) if text is None else text
    return parse(text, str(path), *_survey(text, path.parent))


def read_text(path: Path) -> str:
    """The manifest's text; ManifestError where it cannot be had."""
    try:
        return path.read_bytes().decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except FileNotFoundError:
        raise _only(
            str(path), "there is no such file; name one, or write training_manifest.toml here"
        ) from None
    except UnicodeDecodeError as error:
        raise _only(str(path), f"not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise _only(str(path), f"cannot be read: {error.strerror}") from None


def contents(text: str, folder: Path) -> dict[str, Sha256]:
    """The digest of each dataset and source that the text names and that is there, seen from `folder`.

    ManifestError where something is there and cannot be used; what is missing is left to `parse`.
    """
    found, reasons = _survey(text, folder)
    if reasons:
        raise ManifestError(
            tuple(ManifestProblem("manifest", None, repr(path), reason) for path, reason in reasons.items())
        )
    return found


def _survey(text: str, folder: Path) -> tuple[dict[str, Sha256], dict[str, str]]:
    """By path as written: the digests of what can be used, and why the rest of what is there cannot."""
    found: dict[str, Sha256] = {}
    reasons: dict[str, str] = {}
    try:
        raw = _raw(text, "manifest")
    except ManifestError:
        return found, reasons  # `parse` says what is wrong with it
    for path in (*_values(raw, "datasets", "path"), *_values(raw, "models", "source")):
        try:
            found[path] = content_digest(folder / path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # `parse` reports what is missing
        except OSError as error:
            reasons[path] = f"cannot be read: {error.strerror or error}"
        except (NotArchived, ValueError) as error:  # ValueError: a NUL in the path
            reasons[path] = str(error)
    return found, reasons


def _values(raw: Mapping[str, object], table: str, key: str) -> list[str]:
    entries = raw.get(table)
    rows = entries.values() if isinstance(entries, dict) else ()
    return [row[key] for row in rows if isinstance(row, dict) and isinstance(row.get(key), str)]


def parse(
    text: str,
    file: str = "manifest",
    contents: Contents | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Manifest:
    """Check a manifest's text. `file` is only named in problems.

    By path as written: `contents` are the digests of what it names, `reasons` say why some of that has none.
    """
    raw = _raw(text, file)
    document, problems = _validate(raw)
    unfit = list(checks.unfit_values(raw))
    said = {path for path, _ in unfit}
    problems += [
        *unfit,
        *checks.unknown_names(raw),
        *checks.outputs_elsewhere(raw),
        *checks.missing_contents(raw, contents or {}, reasons or {}),
    ]
    problems += [problem for problem in checks.hyper_problems(raw) if problem[0] not in said]
    jobs: list[tuple[int, JobSpec]] = []
    if document is not None and not unfit:
        too_many = list(checks.too_many_jobs(document))
        jobs = [] if too_many else list(specifications(document, contents or {}))
        problems += [*too_many, *checks.same_id(jobs)]
    if problems or document is None:
        raise _all(file, text, problems)
    return Manifest(document.name, document.hosts, tuple(job for _, job in jobs), contents or {})


def _raw(text: str, file: str) -> Mapping[str, object]:
    """The tables of the text; ManifestError where it is no TOML, or more than any check could go through."""
    if len(text) > MAX_MANIFEST_CHARS:
        raise _only(file, f"too large: {len(text)} characters, at most {MAX_MANIFEST_CHARS} are allowed")
    text = text.removeprefix(BYTE_ORDER_MARK)
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise _only(file, "nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        raise _only(file, f"not valid TOML: {error}", int(place[1]) if place else None) from None
    except ValueError:  # of `int`, which refuses thousands of digits
        raise _only(file, "a whole number must fit into 64 bits; one here has thousands of digits") from None
    if unreadable := list(checks.unreadable(raw)):
        raise _all(file, text, unreadable)
    return raw


def _validate(raw: Mapping[str, object]) -> tuple[Document | None, list[checks.Problem]]:
    try:
        return Document.model_validate(raw), []
    except ValidationError as error:
        return None, list(describe(error, Document))


def _only(file: str, message: str, line: int | None = None) -> ManifestError:
    return ManifestError((ManifestProblem(file=file, line=line, key="", message=message),))


def _all(file: str, text: str, problems: Iterable[checks.Problem]) -> ManifestError:
    lines = locate(text.removeprefix(BYTE_ORDER_MARK))
    return ManifestError(tuple(sorted({_placed(file, lines, *problem) for problem in problems}, key=_order)))


def _placed(file: str, lines: Lines, path: KeyPath, message: str) -> ManifestProblem:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return ManifestProblem(file=file, line=lines.of(path), key=key, message=message)


def _order(problem: ManifestProblem) -> tuple[int, str, str]:
    return (problem.line or 0, problem.key, problem.message)
