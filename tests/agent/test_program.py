from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fleet_agent.program import (
    VARIABLES,
    NoProgram,
    OutputMissing,
    Unusable,
    check,
    command_of,
    gather,
    make_runnable,
    require,
)
from fleet_protocol.jobs import Program
from fleet_protocol.placeholders import PLACEHOLDERS
from tests.agent.coordinator import job_spec

TOLD = {variable: f"<{name}>" for name, variable in VARIABLES.items()}


def job(*command: str, outputs: tuple[str, ...] = (), **more: Any) -> Any:
    return job_spec(program=Program(command=command, outputs=outputs), **more)


def test_the_placeholders_are_those_that_a_manifest_may_name() -> None:
    assert set(VARIABLES) == set(PLACEHOLDERS)


def test_the_built_in_trainer_is_a_module_of_the_configured_interpreter() -> None:
    assert command_of(job_spec(), "/opt/python", {}) == ["/opt/python", "-m", "fleet_trainer", "run"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("python", "train.py", "python"), ["/opt/python", "train.py", "python"]),
        (("sh", "-c", "x; y"), ["sh", "-c", "x; y"]),
        (
            ("train", '{{"lr": {hyper.lr}}}', "{{seed}}", "{{{hyper.on}}}"),
            ["train", '{"lr": 0.001}', "{seed}", "{true}"],
        ),
        (("train", "--lr={hyper.lr}", "{hyper.name}"), ["train", "--lr=0.001", "a b; {seed}"]),
        (("train", "{hyper.deep}{hyper.on}"), ["train", '{"a": [1, 2]}true']),
        (
            ("train", "{data} {output_dir}", "{checkpoint_dir}", "{seed}{device}{attempt}"),
            ["train", "<data> <output_dir>", "<checkpoint_dir>", "<seed><device><attempt>"],
        ),
    ],
)
def test_a_command_is_filled_in_word_by_word(command: tuple[str, ...], expected: list[str]) -> None:
    hyper = {"lr": 0.001, "name": "a b; {seed}", "deep": {"a": [1, 2]}, "on": True}
    spec = job(*command, hyper=hyper)
    check(spec)
    assert command_of(spec, "/opt/python", TOLD) == expected


def test_the_interpreters_path_holds_in_every_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_of(job("python"), "venv/python", {}) == [str(tmp_path / "venv/python")]
    assert command_of(job("python"), "python3", {}) == ["python3"]


@pytest.mark.parametrize("word", ["{hyper.lr}", "{hyper.}", "{token}", "{}", "a{ seed}b"])
def test_a_placeholder_that_nobody_knows_is_refused(word: str) -> None:
    with pytest.raises(Unusable, match=r"the command names .*; this job has .*hyper\.rate"):
        check(job("train", word, hyper={"rate": 1}))


def test_a_command_that_needs_data_says_what_is_missing() -> None:
    with pytest.raises(NoProgram, match="names no dataset and this agent no --data"):
        command_of(job("train", "{data}"), "python", {})


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../b", ".."])
def test_outputs_that_lead_out_are_refused_before_anything_runs(pattern: str) -> None:
    with pytest.raises(Unusable, match="leads out of the working directory"):
        check(job("train", outputs=(pattern,)))


def executable(path: Path, mode: int = 0o755) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_a_program_is_looked_for_where_it_will_run(tmp_path: Path) -> None:
    work = tmp_path / "work"
    executable(work / "bin" / "train")
    environment = {"PATH": str(tmp_path / "bin")}
    require(executable(tmp_path / "elsewhere"), work, environment)
    require("./bin/train", work, environment)
    executable(tmp_path / "bin" / "tool")
    require("tool", work, environment)


def test_a_source_s_programs_can_be_run_whatever_disk_they_came_from(tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "train.sh", 0o644)
    (tmp_path / "notes").write_text("# no program")
    make_runnable(tmp_path)
    require("bin/train.sh", tmp_path, {})
    with pytest.raises(NoProgram, match="not executable"):
        require("./notes", tmp_path, {})


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("no-such-tool", "no program `no-such-tool` on this machine's PATH"),
        ("./train.sh", r"neither here nor in the job's source"),
        ("/no/such/tool", "no program `/no/such/tool`"),
        ("./plain.sh", r"not executable .*such as \[\"sh\", \"./plain.sh\"\]"),
        ("./folder", "neither here nor"),
    ],
)
def test_a_program_that_is_not_there_is_told_with_advice(tmp_path: Path, program: str, words: str) -> None:
    executable(tmp_path / "plain.sh", 0o644)
    (tmp_path / "folder").mkdir()
    with pytest.raises(NoProgram, match=words):
        require(program, tmp_path, {"PATH": os.defpath})


class Place:
    def __init__(self, folder: Path) -> None:
        self.work, self.output = folder / "work", folder / "output"
        self.work.mkdir()
        self.output.mkdir()

    def write(self, *names: str) -> None:
        for name in names:
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def gathered(self, *patterns: str) -> dict[str, str]:
        gather(self.work, patterns, self.output)
        files = (path for path in self.output.rglob("*") if path.is_file())
        return {path.relative_to(self.output).as_posix(): path.read_text() for path in files}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), []),
        (("model.pt",), ["model.pt"]),
        (("*.pt", "runs"), ["model.pt", "runs/1/a.txt", "runs/2/b.txt"]),
        (("runs/**/*.txt",), ["runs/1/a.txt", "runs/2/b.txt"]),
        (("runs/*",), ["runs/1/a.txt", "runs/2/b.txt"]),
    ],
)
def test_declared_outputs_come_under_their_own_paths(
    place: Place, patterns: tuple[str, ...], expected: list[str]
) -> None:
    place.write("model.pt", "runs/1/a.txt", "runs/2/b.txt", "train.py")
    for _ in range(2):  # an agent that was killed in between does it again
        assert place.gathered(*patterns) == {name: name for name in expected}


def test_a_link_to_a_file_of_its_own_becomes_the_file(place: Place) -> None:
    place.write("step-10.pt")
    (place.work / "last.pt").symlink_to("step-10.pt")
    assert place.gathered("last.pt") == {"last.pt": "step-10.pt"}
    assert not (place.output / "last.pt").is_symlink()


def test_what_fleet_output_dir_has_already_stays(place: Place) -> None:
    place.write("model.pt")
    (place.output / "metrics.json").write_text("{}")
    assert place.gathered("model.pt") == {"model.pt": "model.pt", "metrics.json": "{}"}


def test_an_output_that_was_not_written_is_named(place: Place) -> None:
    place.write("a.pt")
    (place.work / "empty").mkdir()
    for pattern in ("*.ckpt", "empty"):
        with pytest.raises(OutputMissing, match=f"declared the output `.*{pattern[1:]}`, but wrote nothing"):
            place.gathered("a.pt", pattern)


@pytest.mark.parametrize("target", ["/etc/passwd", "/etc", "../secret", "../outside"])
def test_an_output_that_leads_out_by_a_link_is_refused(place: Place, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (place.work / "link").symlink_to(target)
    with pytest.raises(OutputMissing, match="leads out of the working directory"):
        place.gathered("link")


@pytest.mark.parametrize("pattern", ["**x", ""])
def test_what_is_no_pattern_is_said(place: Place, pattern: str) -> None:
    with pytest.raises(OutputMissing, match="is no pattern"):
        place.gathered(pattern)


def test_an_output_that_is_no_file_or_has_no_place_is_said(place: Place) -> None:
    os.mkfifo(place.work / "pipe")
    with pytest.raises(OutputMissing, match="no regular file"):
        place.gathered("pipe")
    place.write("model/a")
    (place.output / "model").write_text("in the way")
    with pytest.raises(OutputMissing, match="the name of something else"):
        place.gathered("model/*")
