"""From a join token to a running agent that was heard; and each way in which it may not come to that."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import stat
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleet_agent import credential, install
from fleet_agent.cli import app
from fleet_agent.credential import Enrolment
from fleet_agent.errors import AgentError
from fleet_agent.preflight import Reader, check_clock, out_of_reach
from fleet_agent.renewal import renew
from fleet_agent.services.plan import File, ServicePlan
from fleet_agent.settings import Settings
from fleet_agent.token_source import without_token
from fleet_agent.uplink import connect
from fleet_protocol.credentials import Credential
from fleet_protocol.errors import Problem
from fleet_protocol.workers import HelloRequest
from tests.agent.conftest import until
from tests.agent.coordinator import Coordinator
from tests.agent.test_cli import AGENT, finished, program


def join_token() -> str:
    return str(
        Credential("join", "abcdefgh", "a" * 52)
    )  # the same for every process that collects these tests


def arguments_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


def known(state: Path) -> Enrolment:
    found = Enrolment.read(state)
    assert found is not None
    return found


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    del environment["FLEET_TOKEN"]
    return environment


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the trial, which has a test of its own."""
    monkeypatch.setattr("fleet_agent.enrol.in_context", lambda plan, command, state: "well")


def enrol(coordinator: Coordinator, state: Path, environment: dict[str, str], *more: str) -> Result:
    words = ["enrol", coordinator.url, "--service", "none", "--state", str(state), "--name", "pi", *more]
    return CliRunner().invoke(app, words, env={"FLEET_JOIN_TOKEN": join_token()} | environment)


async def test_enrolled_it_runs_with_nothing_but_its_state_folder(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    """With a real trial, in real processes, with the token on the command line."""
    state = tmp_path / "state"
    words = ["enrol", coordinator.url, "--token", join_token(), "--service", "none", "--state", str(state)]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *AGENT, *words, "--name", "pi", env=environment, stdout=pipe, stderr=pipe
    )
    await until(state.exists)
    assert join_token() not in arguments_of(child.pid)
    said, complaints = (stream.decode() for stream in await child.communicate())
    assert child.returncode == 0, complaints
    assert "trial: gbt learned a known answer" in said
    assert "enrolled, but not running yet and not heard" in said
    assert join_token() not in said + complaints
    assert [stat.S_IMODE(path.stat().st_mode) for path in (state, state / "credential")] == [0o700, 0o600]
    assert sorted(path.name for path in state.iterdir()) == ["attempts", "credential", "lock", "worker"]
    with program(["run", "--state", str(state)], environment, tmp_path / "log") as agent:
        [hello] = await coordinator.told("hello")
        assert isinstance(hello, HelloRequest)
        assert (hello.name, hello.worker, hello.capability.commands) == (
            "pi",
            Enrolment.read(state).worker,
            False,
        )
        await until((state / "heard").exists)
        agent.send_signal(signal.SIGTERM)
        assert await finished(agent) == 0


@pytest.mark.usefixtures("quick")
async def test_repeating_it_uses_the_token_once(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    first = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment)
    again = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "is enrolled already; the token was not used" in again.stdout
    other = await asyncio.to_thread(enrol, coordinator, tmp_path / "other", environment)
    assert other.exit_code == 1
    assert "join_token_used_up" in other.stderr
    assert "Nothing was changed on this machine." in other.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("quick")
async def test_a_lost_answer_is_asked_for_again_with_the_same_secret(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    coordinator.lost_answers["enrol"] = 1
    lost = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment)
    assert lost.exit_code == 3
    assert "Repeat the command as it was" in lost.stderr
    pending = Enrolment.read(tmp_path / "s", pending=True)
    again = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment)
    assert again.exit_code == 0, again.stderr
    assert Enrolment.read(tmp_path / "s") == pending
    assert len(coordinator.enrolled) == 1


@pytest.mark.usefixtures("quick")
async def test_nothing_secret_is_sent_to_a_coordinator_whose_clock_differs(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    coordinator.clock_skew = timedelta(days=-2)
    done = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment)
    assert done.exit_code == 1
    assert "clock_skew" in done.stderr
    assert "days ahead of" in done.stderr
    assert coordinator.secrets_seen == 0
    assert not (tmp_path / "s").exists()


async def test_a_failed_trial_leaves_the_token_unused(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    wrong = ("--models", "resnet")
    done = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment, *wrong)
    assert done.exit_code == 1
    assert "--models permits resnet" in done.stderr
    assert (coordinator.secrets_seen, (tmp_path / "s").exists()) == (0, False)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (join_token()[:-9], "token_malformed"),
        (join_token().replace("a", "b", 5), "token_malformed"),
        ("", "takes one join token"),
    ],
)
def test_a_token_that_is_not_whole_is_told_at_once(
    environment: dict[str, str], tmp_path: Path, token: str, said: str
) -> None:
    words = [
        "enrol",
        "http://127.0.0.1:9",
        "--service",
        "none",
        "--state",
        str(tmp_path / "s"),
        "--token-file",
        "-",
    ]
    done = CliRunner().invoke(app, words, env=environment, input=token)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "s").exists()


def test_the_token_leaves_the_argument_list() -> None:
    for words in (
        ["enrol", "u", "--token", "fj1_x", "--name", "a"],
        ["enrol", "u", "--token=fj1_x", "--name", "a"],
    ):
        assert without_token(words) == (["enrol", "u", "--name", "a"], "fj1_x")
    assert without_token(["run", "--token", "x"]) == (["run", "--token", "x"], None)


def test_a_dry_run_shows_everything_and_does_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    for kind in ("system", "user", "none"):
        words = [
            "enrol",
            "https://c:1",
            "--dry-run",
            "--service",
            kind,
            "--state",
            str(tmp_path / "s"),
            "--cores",
            "2",
        ]
        done = CliRunner().invoke(app, words, env=environment | {"FLEET_JOIN_TOKEN": join_token()})
        assert done.exit_code == 0, done.output
        assert f"run --state {tmp_path / 's'} --cores 2" in done.stdout
        assert "fj1_" not in done.stdout
    assert not (tmp_path / "s").exists()


# Services


class FakeManager:
    """A service manager of shell scripts: what is told to it is real, what it runs is a file that it touches."""

    def __init__(self, folder: Path, *, hears: bool) -> None:
        self.folder = folder
        script = f"touch {folder}/state/heard" if hears else "true"
        self.plan = ServicePlan(
            account=None,
            files=(File(folder / "units" / "a.service", "text"),),
            start=(("sh", "-c", f"touch {folder}/started; {script}"),),
            stop=(("sh", "-c", f"touch {folder}/stopped"),),
            forget=(("sh", "-c", f"touch {folder}/forgotten"),),
            status=("test", "-e", f"{folder}/started"),
            words=("echo", "its last words"),
        )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("hears", [True, False])
async def test_enrolled_is_said_when_the_service_was_heard_and_else_undone(
    coordinator: Coordinator,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hears: bool,
) -> None:
    manager = FakeManager(tmp_path, hears=hears)
    monkeypatch.setattr("fleet_agent.enrol.plan_for", lambda *_: manager.plan)
    monkeypatch.setattr("fleet_agent.enrol.check_manager", lambda _: None)
    monkeypatch.setattr("fleet_agent.install.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("fleet_agent.enrol.HEARD_SECONDS", 5.0 if hears else 0.05)
    done = await asyncio.to_thread(enrol, coordinator, tmp_path / "state", environment)
    unit = tmp_path / "units" / "a.service"
    if hears:
        assert done.exit_code == 0, done.output
        assert "✓ enrolled: pi trains for" in done.stdout
        assert unit.read_text() == "text"
        return
    assert done.exit_code == 1
    assert "did not hear it" in done.stderr
    assert "its last words" in done.stderr
    assert "`fleet-agent uninstall` removes that too" in done.stderr
    assert "enrolled: " not in done.stdout
    assert [unit.exists(), (tmp_path / "stopped").exists(), (tmp_path / "forgotten").exists()] == [
        False,
        True,
        True,
    ]


async def test_an_older_unit_comes_back_when_the_new_one_fails(tmp_path: Path) -> None:
    manager = FakeManager(tmp_path, hears=False)
    unit = tmp_path / "units" / "a.service"
    unit.parent.mkdir()
    unit.write_text("older")
    broken = dataclasses.replace(manager.plan, start=(("sh", "-c", "echo broken >&2; exit 4"),))
    with ExitStack() as undo, pytest.raises(AgentError, match="broken"):
        install.install(broken, undo)
    assert unit.read_text() == "older"


# Before


def test_what_a_service_account_cannot_reach_is_named_once(tmp_path: Path) -> None:
    place = tmp_path / "closed" / "venv"
    place.mkdir(parents=True)
    (place / "python").touch()
    (tmp_path / "closed").chmod(0o750)
    other = Reader("fleet-agent")
    [told] = out_of_reach([place, place / "python"], other)
    assert "/tmp" in told  # which is the service's own
    owner = Reader("me", os.getuid(), frozenset())
    assert owner.may((tmp_path / "closed").stat(), 5)
    assert not other.may((tmp_path / "closed").stat(), 1)


@pytest.mark.parametrize(("skew", "passes"), [(4, True), (-4, True), (6, False), (-6, False)])
def test_five_minutes_are_forgiven(skew: int, passes: bool) -> None:
    here = datetime(2026, 1, 1, tzinfo=UTC)
    if passes:
        check_clock(here, here + timedelta(minutes=skew))
        return
    with pytest.raises(AgentError, match=r"clock_skew.*6 minutes"):
        check_clock(here, here + timedelta(minutes=skew))


# Afterwards


@pytest.mark.usefixtures("quick")
async def test_uninstall_keeps_what_was_not_handed_in(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "s"
    await asyncio.to_thread(enrol, coordinator, state, environment)
    owed = state / "attempts" / "one"
    owed.mkdir()
    done = CliRunner().invoke(app, ["uninstall", "--state", str(state)], env=environment)
    assert "kept 1 attempt(s) that were not handed in" in done.stdout
    assert "fleet workers revoke pi" in done.stdout
    assert (owed.exists(), (state / "credential").exists()) == (True, False)
    owed.rmdir()
    done = CliRunner().invoke(app, ["uninstall", "--state", str(state)], env=environment)
    assert (done.exit_code, state.exists()) == (0, False)


@pytest.mark.usefixtures("quick")
async def test_doctor_tells_of_the_credential_and_that_jobs_could_read_it(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "s"
    await asyncio.to_thread(enrol, coordinator, state, environment)
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["doctor", "--state", str(state)], env=environment
    )
    assert f"enrolled  pi at {coordinator.url}" in done.stdout
    assert "0 days old" in done.stdout
    assert "could read the secret" in done.stdout
    assert known(state).credential not in done.stdout + done.stderr
    assert "refuses" not in done.stderr


@pytest.mark.usefixtures("quick")
async def test_a_credential_is_shown_to_no_other_coordinator(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "s"
    await asyncio.to_thread(enrol, coordinator, state, environment)
    elsewhere = [
        "doctor",
        "--state",
        str(state),
        "--server",
        coordinator.url.replace("127.0.0.1", "localhost"),
    ]
    done = await asyncio.to_thread(CliRunner().invoke, app, elsewhere, env=environment)
    assert "takes no such token" in done.stderr


@pytest.mark.usefixtures("quick")
async def test_a_refusal_at_enrolment_is_the_coordinators_own_words(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path
) -> None:
    expired = Problem(
        title="no", status=403, detail="it expired at noon", code="join_token_expired", next="fleet join new"
    )
    coordinator.problems["enrol"] = [expired]
    done = await asyncio.to_thread(enrol, coordinator, tmp_path / "s", environment)
    assert "join_token_expired: it expired at noon (fleet join new)" in done.stderr


@pytest.mark.usefixtures("quick")
async def test_an_old_secret_is_replaced_at_the_start_and_a_lost_answer_costs_nothing(
    coordinator: Coordinator, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEET_TOKEN", raising=False)
    state, now = tmp_path / "s", datetime.now(UTC)
    await asyncio.to_thread(enrol, coordinator, state, environment)
    first = known(state)
    settings = Settings(server=coordinator.url, state=state)
    uplink = connect(coordinator.url, None, state, credential.bearer(settings))
    await renew(settings, uplink, now + timedelta(days=29))
    assert known(state) == first
    coordinator.lost_answers["credential"] = 1
    await renew(settings, uplink, now + timedelta(days=30, hours=1))
    pending = Enrolment.read(state, pending=True)
    assert known(state) == first
    await renew(settings, uplink, now + timedelta(days=31))
    assert known(state) == pending
    assert stat.S_IMODE((state / "credential").stat().st_mode) == 0o600
    await uplink.check()
    assert uplink.authorization() == {"Authorization": f"Bearer {known(state).credential}"}
    await uplink.close()
