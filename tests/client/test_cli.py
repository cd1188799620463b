"""The command line against a small coordinator on a real socket: what it prints, where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from starlette.responses import Response

from fleet_client.cli import main
from fleet_client.cli.session import described
from fleet_client.errors import Invalid
from fleet_protocol.errors import Problem, ProblemItem
from fleet_protocol.plan import MAX_MANIFEST_CHARS
from fleet_protocol.states import JobStatus
from tests.client.fake import ATTEMPT, Coordinator, a_job, completed


@dataclass(frozen=True)
class Ending:
    code: int
    out: str
    err: str


class Fleet:
    """Runs `fleet ARGUMENTS` in this process, as main() would be run by the script."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes], url: str) -> None:
        self.captured, self.url = capfdbinary, url

    def __call__(self, *arguments: str) -> Ending:
        self.captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--url", self.url, *arguments])
        sys.stdout.flush()
        out, err = self.captured.readouterr()
        assert b"Traceback (most" not in err
        return Ending(int(ended.value.code or 0), out.decode(), err.decode())


@pytest.fixture
def fleet(
    coordinator: Coordinator, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    monkeypatch.setenv("FLEET_URL", coordinator.url)  # and is restored after main() has set it
    return Fleet(capfdbinary, coordinator.url)


GOOD = 'schema_version = 1\n[[jobs]]\nname = "a"\nmodel = "gbt"\n'


def test_status_tells_the_real_error_and_why_what_waits(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [
        a_job(1, JobStatus.FAILED, reason="train_hosts names nobody"),
        a_job(2, reason="needs a CUDA GPU"),
        a_job(3, JobStatus.RUNNING, worker="pi-garage"),
        completed(4),
    ]
    ending = fleet("status")
    assert ending.code == 0
    assert "1 pending, 1 running, 1 completed, 1 failed" in ending.out
    for words in ("train_hosts names nobody", "needs a CUDA GPU", "1 live of 1 (pi-garage)"):
        assert words in ending.out


def test_status_as_json(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1, JobStatus.FAILED, reason="boom"), completed(2)]
    said = json.loads(fleet("status", "--json").out)
    assert said["counts"] == {
        "pending": 0, "claimed": 0, "running": 0, "completed": 1, "failed": 1, "cancelled": 0,
    }  # fmt: skip
    assert [job["reason"] for job in said["jobs"]] == ["boom"]
    assert said["workers"][0]["name"] == "pi-garage"


def test_list_shows_one_line_a_job_uncut_in_a_pipe(coordinator: Coordinator, fleet: Fleet):
    long = "a name that is long " * 8
    coordinator.jobs = [completed(1, name=long), a_job(2)]
    ending = fleet("list")
    heading, first, second = ending.out.splitlines()
    assert heading.split()[:3] == ["ID", "NAME", "MODEL"]
    assert long.strip() in first
    assert "accuracy 0.861 [0.806, 0.904] host" in first
    assert "pending" in second
    assert "\x1b" not in ending.out


def test_list_filters_and_prints_the_interfaces_objects(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1), completed(2)]
    said = json.loads(fleet("list", "--status", "completed", "--json").out)
    assert [job["job_id"] for job in said["jobs"]] == [coordinator.jobs[1].job_id]
    assert said["next"] is None
    assert coordinator.take()[-1].startswith("GET /v1/jobs?status=completed")


def test_a_wrong_status_is_wrong_usage(fleet: Fleet):
    ending = fleet("list", "--status", "done")
    assert ending.code == 2
    assert "pending" in ending.err
    assert ending.out == ""


@pytest.mark.parametrize("arguments", [("list", "--sort", "bogus"), ("logs", "job 1", "--attempt", "xyz")])
def test_a_value_that_cannot_be_is_wrong_usage(
    coordinator: Coordinator, fleet: Fleet, arguments: tuple[str, ...]
):
    ending = fleet(*arguments)
    assert (ending.code, coordinator.take()) == (2, [])
    assert ending.err.count(arguments[-2]) == 1
    assert "[0-9a-f]" not in ending.err


def test_what_the_sentence_says_is_not_said_again():
    items = tuple(ProblemItem(key=key, message=f"no {key}") for key in "ab")
    error = Invalid(Problem(title="", status=422, detail="It has no a.", code="invalid", errors=items))
    assert described(error) == "It has no a.\n  b: no b"


def test_show_tells_everything_and_no_escape_sequence(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1, JobStatus.FAILED, reason="no such host")]
    ending = fleet("show", "job 1")
    for words in ("0000000000000001", "trees = 30", "subject-01", "no such host", "boom", "1 error of 1"):
        assert words in ending.out
    assert "\x1b" not in ending.out
    assert json.loads(fleet("show", "job 1", "--json").out)["history"][0]["attempt"] == ATTEMPT


def test_explain_names_every_worker_and_its_reason(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1)]
    ending = fleet("explain", "0000000000000001")
    assert "no worker can take it" in ending.out
    assert "pi-garage  needs a CUDA GPU, has none" in ending.out
    assert (
        json.loads(fleet("explain", "job 1", "--json").out)["workers"][0]["refusals"][0]["code"] == "no_cuda"
    )


def test_a_result_of_before_hides_no_reason_and_says_that_it_is_of_before(
    coordinator: Coordinator, fleet: Fleet
):
    again = completed(1).model_copy(update={"status": JobStatus.FAILED, "reason": "out of memory"})
    coordinator.jobs = [again, completed(2)]
    _, failed, trained = fleet("list").out.splitlines()
    assert failed.endswith("out of memory")
    assert "accuracy" in trained
    shown = fleet("show", "job 1").out
    assert "Metrics (of an earlier training, which completed)" in shown
    assert "data folder (of an earlier training, which completed)" in shown
    assert "earlier" not in fleet("show", "job 2").out


def test_explain_asks_who_could_take_it_only_of_a_job_that_waits(coordinator: Coordinator, fleet: Fleet):
    for status in JobStatus:
        coordinator.jobs = [a_job(1, status)]
        assert ("pi-garage" in fleet("explain", "job 1").out) == (status is JobStatus.PENDING)


def test_workers(fleet: Fleet):
    assert "pi-garage  live" in fleet("workers").out
    assert json.loads(fleet("workers", "--json").out)["workers"][0]["capability"]["models"] == ["gbt"]


def test_logs_are_the_very_bytes(
    coordinator: Coordinator, fleet: Fleet, capfdbinary: pytest.CaptureFixture[bytes]
):
    coordinator.jobs, coordinator.log = [completed(1)], b"epoch 1\r\n\xff\xfe\x00" * 4
    for arguments in (("logs", "job 1", "--raw"), ("logs", "-f", "job 1", "--raw")):
        with pytest.raises(SystemExit):
            main(list(arguments))
        assert capfdbinary.readouterr().out == coordinator.log
    lines = [json.loads(line) for line in fleet("logs", "job 1", "--json").out.splitlines()]
    assert [line["offset"] for line in lines] == [0, 8, 16, 24, 32, 40]


def test_logs_are_folded_and_made_harmless(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [completed(1)]
    coordinator.log = b"start\n 10%\r 50%\r100%\n\x1b]0;evil\x07a\x00b\x1b[31m\xff\nlast"
    for arguments in (("logs", "job 1"), ("logs", "-f", "job 1")):
        assert fleet(*arguments).out == "start\n100%\nab�\nlast\n"


def test_holes_of_a_log_are_a_line(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs, coordinator.log = [completed(1)], b"one\nhal" + bytes(9) + b"f\nend\n"
    coordinator.holes = [(7, 16)]
    said = "[fleet: 9 bytes from byte 7 on are missing: the agent could not keep them]\n"
    for follow in ((), ("-f",)):
        assert fleet("logs", "job 1", *follow).out == f"one\nhal\n{said}f\nend\n"
        raw = fleet("logs", "job 1", "--raw", *follow)
        assert (raw.out, said in raw.err) == ("one\nhalf\nend\n", True)
    texts = [json.loads(line) for line in fleet("logs", "job 1", "--json").out.splitlines()]
    assert {"offset": 7, "missing": 9, "why": "lost"} in texts


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("10m", "600.000000"),
        ("1.5h", "5400.000000"),
        ("2026-03-01T12:00:00Z", "2026-03-01T"),
        ("2026-03-01", "2026-0"),
    ],
)
def test_logs_since(coordinator: Coordinator, fleet: Fleet, given: str, asked: str):
    coordinator.jobs, coordinator.log = [completed(1)], b"x\n"
    for follow in ((), ("-f",)):
        assert fleet("logs", "job 1", "--since", given, *follow).code == 0
        assert f"since={asked}" in unquote(coordinator.take()[-1])


@pytest.mark.parametrize(
    "wrong", [("--since", "soon"), ("--since", "9999-99-99"), ("--since", "1m", "--tail", "3")]
)
def test_what_since_does_not_take(fleet: Fleet, wrong: tuple[str, ...]):
    ending = fleet("logs", "job 1", *wrong)
    assert ending.code == 2
    assert "--since" in ending.err or "30s" in ending.err


def test_one_job_is_cancelled_without_a_question(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1)]
    ending = fleet("cancel", "job 1", "--reason", "too dear")
    assert (ending.code, ending.out) == (0, "0000000000000001  cancelled  job 1\n")
    assert coordinator.take()[-1] == 'POST /v1/job/0000000000000001/cancel {"reason":"too dear"}'


def test_several_jobs_want_a_yes(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1), a_job(2)]
    ending = fleet("requeue", "job 1", "job 2")
    assert ending.code == 2
    assert "--yes" in ending.err
    assert not [asked for asked in coordinator.take() if asked.startswith("POST")]
    assert len(json.loads(fleet("requeue", "job 1", "job 2", "--yes", "--json").out)["jobs"]) == 2


def test_what_is_meant_is_shown_and_nothing_done(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1), a_job(2)]
    for order in ("cancel", "requeue"):
        ending = fleet(order, "job 1", "job 2", "--dry-run")
        assert (ending.code, len(ending.out.splitlines())) == (0, 2)
        assert "of 2 jobs; nothing was changed" in ending.err
    assert not [asked for asked in coordinator.take() if asked.startswith("POST")]


def test_jobs_from_standard_input(coordinator: Coordinator, fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    coordinator.jobs = [a_job(1), a_job(2)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("0000000000000001  pending\n\n0000000000000002\n"))
    assert len(fleet("cancel", "-", "--yes").out.splitlines()) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    ending = fleet("cancel", "-")
    assert (ending.code, ending.err.splitlines()[0]) == (2, "fleet: standard input names no job.")


def test_a_slip_among_several_changes_nothing(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [a_job(1)]
    ending = fleet("cancel", "job 1", "job 9", "--yes")
    assert ending.code == 1
    assert ending.err.splitlines() == ["fleet: There is no job 'job 9'.", "       Next: fleet list"]
    assert not [asked for asked in coordinator.take() if asked.startswith("POST")]


def test_one_refusal_does_not_hide_what_was_done(coordinator: Coordinator, fleet: Fleet):
    coordinator.jobs = [completed(1), a_job(2)]
    ending = fleet("cancel", "job 1", "job 2", "-y")
    assert ending.code == 1
    assert "cancelled  job 2" in ending.out
    assert "job 1 is completed" in ending.err


def test_plan_fails_where_no_worker_ever_could(coordinator: Coordinator, fleet: Fleet, tmp_path: Path):
    (tmp_path / "m.toml").write_text(GOOD)
    ending = fleet("plan", str(tmp_path / "m.toml"))
    assert ending.code == 1
    assert "big  needs a CUDA GPU, has none" in ending.out
    ending = fleet("reload", "--json")
    assert ending.code == 0
    assert json.loads(ending.out)["entries"][0]["category"] == "new"
    assert coordinator.take() == [
        f"POST /v1/manifest/plan {json.dumps({'toml': GOOD, 'file': str(tmp_path / 'm.toml')}, separators=(',', ':'))}",
        "POST /v1/manifest/reload {}",
    ]


def test_a_manifest_that_is_not_there(fleet: Fleet):
    ending = fleet("reload", "nowhere.toml")
    assert (ending.code, ending.err) == (1, "fleet: No such file or directory: nowhere.toml\n")


def test_check_lists_ids_or_problems(tmp_path: Path, fleet: Fleet):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD)
    bad.write_text(GOOD + "prioritty = 1\n")
    ending = fleet("check", str(good), "--json")
    said = json.loads(ending.out)
    assert ending.code == 0
    assert said.keys() == {"ok", "jobs", "problems"}
    assert said["jobs"][0].keys() == {"name", "job_id", "model", "mode"}
    assert said["jobs"][0]["job_id"] in fleet("check", str(good)).out
    ending = fleet("check", str(bad), "--json")
    said = json.loads(ending.out)
    assert (ending.code, said["ok"], said["jobs"]) == (1, False, [])
    assert said["problems"][0].keys() == {"file", "line", "key", "message"}
    assert said["problems"][0]["line"] == 5
    assert "did you mean" in fleet("check", str(bad)).err


def test_check_looks_in_this_folder(tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no such file" in fleet("check").err
    (tmp_path / "training_manifest.toml").write_text(GOOD)
    assert fleet("check").code == 0


def test_nobody_there(fleet: Fleet):
    ending = fleet("status", "--url", "http://127.0.0.1:1")
    assert ending.code == 3
    assert "fleet-server serve" in ending.err
    assert ending.out == ""


def test_a_wrong_token_says_where_tokens_live(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEET_TOKEN", "wrong")
    ending = fleet("list")
    assert ending.code == 1
    assert "tokens/operator" in ending.err


def test_a_token_never_travels_unprotected(fleet: Fleet):
    ending = fleet("list", "--url", "http://lab.example:8490")
    assert ending.code == 2
    assert "unprotected" in ending.err


def test_a_stranger_on_the_port(coordinator: Coordinator, fleet: Fleet):
    coordinator.page = Response("<html>")
    ending = fleet("list")
    assert ending.code == 1
    assert "no readable JobPage" in ending.err


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_help_and_version_load_no_heavy_library():
    code = (
        "import sys; from fleet_client.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('httpx', 'pydantic', 'websockets', 'asyncio') if m in sys.modules], file=sys.stderr)"
    )
    for flag in ("--help", "--version"):
        ended = run("-c", code, flag)
        assert ended.stderr == "[]\n"
        assert "fleet" in ended.stdout


def test_a_broken_pipe_is_quiet(tmp_path: Path):
    jobs = "".join(f'[[jobs]]\nname = "j{n}"\nmodel = "gbt"\nseed = {n}\n' for n in range(3000))
    (tmp_path / "m.toml").write_text(f"schema_version = 1\n{jobs}")
    command = f"{sys.executable} -m fleet_client check {tmp_path / 'm.toml'} --json | head -1"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("{\n", "")


def test_a_pipe_that_nobody_reads_is_quiet(tmp_path: Path):
    (tmp_path / "m.toml").write_text(GOOD)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fleet_client", "check", str(tmp_path / "m.toml"), "--json"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=buffered, timeout=60)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def ended(command: str, **environment: str) -> tuple[int, str, str]:
    """How a shell's command ended that runs `fleet`, whose output is buffered as a person's is."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = command.replace("fleet", f"{sys.executable} -m fleet_client", 1)
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, env=ours | environment, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_output_is_told_in_a_sentence(coordinator: Coordinator):
    said = "fleet: standard output is closed, so there is nowhere to write to.\n"
    assert ended("fleet list >&-", FLEET_URL=coordinator.url) == (1, "", said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_told_in_a_sentence(coordinator: Coordinator):
    code, _, told = ended("fleet list >/dev/full", FLEET_URL=coordinator.url)
    assert (code, told.count("\n"), "No space left" in told) == (1, 1, True)


def test_a_token_that_can_be_none_is_told_in_a_sentence(
    coordinator: Coordinator, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLEET_TOKEN", "wröng")
    ending = fleet("status")
    assert ending.code == 1
    assert "plain ASCII" in ending.err
    assert "tokens/operator" in ending.err
    assert coordinator.take() == []


def test_a_manifest_beyond_the_limit_is_refused_as_by_check(fleet: Fleet, tmp_path: Path):
    (tmp_path / "m.toml").write_text(GOOD + "#" * MAX_MANIFEST_CHARS)
    checked = fleet("check", str(tmp_path / "m.toml"))
    for command in ("plan", "reload"):
        assert fleet(command, str(tmp_path / "m.toml")) == checked
    assert "too large" in checked.err


def test_ctrl_c_while_it_loads_is_quiet(tmp_path: Path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    assert ended("fleet logs some-job", PYTHONPATH=str(tmp_path)) == (130, "", "")


def test_no_command_prints_the_help():
    ended = run("-m", "fleet_client")
    assert ended.returncode == 2
    assert "status" in ended.stdout + ended.stderr
