"""What an attempt runs: fleet's own trainer, or a program of the manifest; and the files that it declared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from pydantic import JsonValue

from fleet_protocol.jobs import JobSpec
from fleet_protocol.placeholders import fill, names

VARIABLES = {
    "data": "FLEET_DATA",
    "output_dir": "FLEET_OUTPUT_DIR",
    "checkpoint_dir": "FLEET_CHECKPOINT_DIR",
    "seed": "FLEET_SEED",
    "device": "FLEET_DEVICE",
    "attempt": "FLEET_ATTEMPT",
}
"""What `{data}` and the like in a command stand for."""

PROGRAMS = (b"#!", b"\x7fELF", b"\xcf\xfa\xed\xfe")


class Unusable(Exception):
    """The manifest's entry for this program cannot be carried out anywhere."""


class NoProgram(Exception):
    """There is nothing here to run, or no data to run it on."""


class OutputMissing(Exception):
    """What the program declared is not there, or is not what may become an artifact."""


def check(job: JobSpec) -> None:
    """Unusable where no machine could do what the manifest says; asked before anything is fetched."""
    if job.program is None:
        return
    known = VARIABLES.keys() | _settings(job).keys()
    for name in (name for word in job.program.command for name in names(word)):
        if name not in known:
            raise Unusable(f"the command names {{{name}}}; this job has {', '.join(sorted(known))}")
    for pattern in job.program.outputs:
        if PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts:
            raise Unusable(f"outputs: `{pattern}` leads out of the working directory")


def command_of(job: JobSpec, python: str, environment: Mapping[str, str]) -> list[str]:
    """The argument list; `python` in its first place means the agent's. NoProgram where it needs data and has none."""
    path = Path(python)
    python = python if path.name == python else str(path.absolute())  # jobs run in folders of their own
    if job.program is None:
        return [python, "-m", "fleet_trainer", "run"]
    settings = _settings(job)

    def value(name: str) -> str:
        if name in settings:
            return settings[name]
        if (told := environment.get(VARIABLES[name])) is None:
            raise NoProgram(
                "its command needs {data}, but the job names no dataset and this agent no --data folder"
            )
        return told

    program, *arguments = (fill(word, value) for word in job.program.command)
    return [python if program == "python" else program, *arguments]


def _settings(job: JobSpec) -> dict[str, str]:
    return {f"hyper.{key}": _word(value) for key, value in job.hyper.items()}


def _word(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def require(program: str, work: Path, environment: Mapping[str, str]) -> None:
    """NoProgram where `program` cannot be run in `work`, with what to do about it."""
    if Path(program).name == program:
        if shutil.which(program, path=environment["PATH"]) is None:
            raise NoProgram(f"there is no program `{program}` on this machine's PATH")
        return
    place = work / program
    if not place.is_file():
        raise NoProgram(f"there is no program `{program}`, neither here nor in the job's source")
    if not os.access(place, os.X_OK):
        raise NoProgram(
            f"`{program}` is not executable (of a source, what begins with `#!` is); name its interpreter, "
            f'such as ["sh", "{program}"]'
        )


def make_runnable(work: Path) -> None:
    """Let the source's programs be run. Not all machines and disks know such a permission, so none travels; the first
    bytes tell: `#!`, or those of a Linux or macOS binary."""
    for path in work.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                is_program = file.read(4).startswith(PROGRAMS)
            if is_program:
                path.chmod(0o700)


def gather(work: Path, patterns: Sequence[str], output: Path) -> None:
    """Put the declared files into `output`, under their paths in `work`. OutputMissing, OSError."""
    for pattern in patterns:
        found = sorted(set(_files(work, pattern)))
        if not found:
            raise OutputMissing(f"it declared the output `{pattern}`, but wrote nothing of that name")
        for file in found:
            _add(work, file, output)


def _files(work: Path, pattern: str) -> Iterator[Path]:
    try:
        for path in work.glob(pattern):
            yield from (file for file in path.rglob("*") if not file.is_dir()) if path.is_dir() else (path,)
    except (ValueError, NotImplementedError) as error:
        raise OutputMissing(f"outputs: `{pattern}` is no pattern: {error}") from None


def _add(work: Path, file: Path, output: Path) -> None:
    """One file, under its own path, and without copying its bytes where the file system can."""
    place, real = file.relative_to(work), file.resolve()
    if not real.is_relative_to(work.resolve()):
        raise OutputMissing(f"the output {place} leads out of the working directory")
    if not real.is_file():
        raise OutputMissing(f"the output {place} is no regular file")
    target = output / place
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # an earlier agent may have come this far
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError):
        raise OutputMissing(
            f"the output {place} has the name of something else in FLEET_OUTPUT_DIR"
        ) from None
    try:
        target.hardlink_to(real)
    except OSError:
        shutil.copyfile(real, target)
