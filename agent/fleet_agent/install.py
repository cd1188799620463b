"""Carries out what a service plan says; what was made is unmade where a later step fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from fleet_agent.errors import AgentError
from fleet_agent.preflight import Reader
from fleet_agent.services import Kind, describe, plan_for
from fleet_agent.services.plan import Command, File, ServicePlan
from fleet_agent.services.systemd import STATE

Say = Callable[[str], None]
LOOK_SECONDS = 0.2


def run(command: Command, *, environment: Mapping[str, str] | None = None, account: str | None = None) -> str:
    """The command's output. AgentError with its last words when it fails."""
    identity = {"user": account, "group": account, "extra_groups": []} if account else {}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            **identity,  # type: ignore[call-overload]  # only POSIX has these
        )
    except OSError as error:
        raise AgentError(f"{command[0]} cannot be run: {error.strerror}.") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise AgentError(f"`{shlex.join(command)[:200]}` failed:\n  " + "\n  ".join(words[-12:]))
    return done.stdout


def account_reader(name: str) -> Reader:
    """The account, whether it is there yet or not."""
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return Reader(name)
    return Reader(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def new_account(name: str) -> Command:
    """Its home is what jobs may use of the state folder: what they keep in a home is not in the way of secrets."""
    return ("useradd", "--system", "--home-dir", str(STATE / "home"), "--shell", "/usr/sbin/nologin", name)


def make_account(name: str, undo: ExitStack) -> bool:
    """Whether it had to be made."""
    if account_reader(name).uid is not None:
        return False
    run(new_account(name))
    undo.callback(_quietly, ("userdel", name))
    return True


def make_state(state: Path, account: str | None, undo: ExitStack) -> None:
    """The state folder with what is in it so far, for the account alone. AgentError when it cannot be made."""
    try:
        if not state.exists():
            state.mkdir(mode=0o700, parents=True)
            undo.callback(shutil.rmtree, state, ignore_errors=True)
        if account is not None:
            (state / "home").mkdir(mode=0o700, exist_ok=True)
            hand_over(state, account)
    except OSError as error:
        raise AgentError(f"The state folder {state} cannot be made: {error.strerror}.") from None


def hand_over(state: Path, account: str) -> None:
    for path in (state, *state.iterdir()):
        shutil.chown(path, account, account)


def install(plan: ServicePlan, undo: ExitStack) -> None:
    """Write its files and start it; an older file of that name comes back when it is undone."""
    for command in reversed(plan.forget):
        undo.callback(_quietly, command)
    for file in plan.files:
        _write(file, undo)
    for command in reversed(plan.stop):
        undo.callback(_quietly, command)
    for command in plan.start:
        run(command)


def _write(file: File, undo: ExitStack) -> None:
    path = Path(file.path)
    before = path.read_bytes() if path.exists() else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, "utf-8")
        path.chmod(file.mode)
    except OSError as error:
        raise AgentError(f"{path} cannot be written: {error.strerror}.") from None
    if before is None:
        undo.callback(path.unlink, missing_ok=True)
    else:
        undo.callback(path.write_bytes, before)


def remove(plan: ServicePlan) -> None:
    """Stop the service and take its files away, whether it still runs or not. AgentError without the right to."""
    for command in plan.stop:
        _quietly(command)
    try:
        for file in plan.files:
            Path(file.path).unlink(missing_ok=True)
    except OSError as error:
        raise AgentError(f"{error.filename} cannot be removed: {error.strerror}; use sudo.") from None
    for command in plan.forget:
        _quietly(command)


def _quietly(command: Command) -> None:
    with contextlib.suppress(AgentError):  # undoing goes on with what can be undone
        run(command)


def installed() -> Iterator[tuple[Kind, ServicePlan]]:
    """The services of this program that are there."""
    for kind in (Kind.SYSTEM, Kind.USER):
        plan = plan_for(kind, describe((), Path("/")))
        if plan is not None and plan.is_installed:
            yield kind, plan


def is_running(plan: ServicePlan) -> bool:
    try:
        run(plan.status)
    except AgentError:
        return False
    return True


async def until_heard(state: Path, plan: ServicePlan, seconds: float) -> None:
    """Return once the service's own first hello was accepted; AgentError with its last words where it is not."""
    try:
        async with asyncio.timeout(seconds):
            while not (state / "heard").exists():  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        words = ""
        with contextlib.suppress(AgentError):
            words = run(plan.words)
        raise AgentError(
            f"The service was started, but the coordinator did not hear it within {seconds:.0f} s; its last words:\n"
            f"{words}"
        ) from None


def in_context(plan: ServicePlan | None, command: Command, state: Path) -> str:
    """Run `command` as the service would; without a service, as one that is started with nothing in its environment."""
    if plan is not None and plan.context:
        return run((*plan.context, *command))
    home = str(state / "home" if plan is not None and plan.account else Path.home())
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": home}
    if sys.platform == "win32":
        environment = dict(os.environ)  # a task has its account's own
    return run(command, environment=environment, account=plan.account if plan else None)
