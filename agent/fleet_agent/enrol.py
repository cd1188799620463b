"""`fleet-agent enrol`: from a join token to a service that the coordinator has heard, or back to where it began.

What proves that it was heard is STATE/heard: the agent writes it when the coordinator answers its first
`POST /v1/worker/hello`, which takes the new credential. An earlier mark is removed before the service starts.
"""

from __future__ import annotations

import platform
import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet_agent import credential
from fleet_agent.credential import Enrolment
from fleet_agent.doctor import state_faults
from fleet_agent.errors import AgentError, CoordinatorAway
from fleet_agent.install import (
    Say,
    account_reader,
    hand_over,
    in_context,
    install,
    is_running,
    make_account,
    make_state,
    new_account,
    until_heard,
)
from fleet_agent.preflight import check_clock, needed, out_of_reach
from fleet_agent.services import Kind, check_manager, describe, plan_for
from fleet_agent.services.plan import ServicePlan
from fleet_agent.settings import Settings
from fleet_agent.state import StateFolder
from fleet_agent.uplink import Refused, Unreachable, connect
from fleet_protocol.credentials import make
from fleet_protocol.enrolment import EnrolRequest
from fleet_protocol.version import PROTOCOL

HEARD_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody typed."""

    settings: Settings
    token: str
    kind: Kind
    flags: tuple[str, ...] = ()
    """Of `fleet-agent run`, for the service to be started with."""

    @property
    def pin(self) -> str | None:
        return credential.pin_of(self.token)

    @property
    def command(self) -> tuple[str, ...]:
        return self._program("run")

    @property
    def trial(self) -> tuple[str, ...]:
        return self._program("self-test")

    def _program(self, verb: str) -> tuple[str, ...]:
        state = str(self.settings.state.absolute())
        return (sys.executable, "-m", "fleet_agent", verb, "--state", state, *self.flags)

    def plan(self) -> ServicePlan | None:
        return plan_for(self.kind, describe(self.command, self.settings.state.absolute()))


def rehearse(wish: Wish) -> list[str]:
    """Every file and command, with nothing done and nobody asked."""
    state, plan = wish.settings.state.absolute(), wish.plan()
    account = plan.account if plan else None
    lines = [
        f"# state folder {state}, mode 0700, for {account or 'this account'}; in it `credential`, mode 0600"
    ]
    if account is not None and account_reader(account).uid is None:
        lines.append(f"$ {shlex.join(new_account(account))}")
    context = plan.context if plan else ()
    lines.append(f"$ {shlex.join((*context, *wish.trial))}")
    lines.append(f"# GET {wish.settings.server}/v1/health, then POST /v1/enrol with the token")
    if plan is None:
        return [*lines, f"# to be started by you: {shlex.join(wish.command)}"]
    for file in plan.files:
        lines += [f"# {file.path}, mode {file.mode:04o}", *file.text.splitlines()]
    return [*lines, *(f"$ {shlex.join(command)}" for command in plan.start), f"# then wait for {state}/heard"]


async def enrol(wish: Wish, say: Say) -> None:
    """All of it. AgentError says what went wrong, what was undone and what is left."""
    settings, plan = wish.settings, wish.plan()
    with ExitStack() as undo:
        try:
            _preflight(wish, plan, say)
            await _find_coordinator(wish, say)
            _prepare(wish, plan, say, undo)
            is_new = await _register(wish, plan, say, undo)
            if plan is not None:
                await _serve(settings.state, plan, say, undo, is_new=is_new)
        except AgentError as error:
            undo.close()
            raise type(error)(f"{error}\n{_what_is_left(settings)}") from None
        undo.pop_all()
    if plan is None:
        say(f"enrolled, but not running yet and not heard; start it: {shlex.join(wish.command)}")
    else:
        say(f"enrolled: {settings.name} trains for {settings.server}; `fleet-agent doctor` looks after it")


def _what_is_left(settings: Settings) -> str:
    if Enrolment.read(settings.state) is None and Enrolment.read(settings.state, pending=True) is None:
        return "Nothing was changed on this machine."
    return (
        f"What was installed is removed again; {settings.state} with the credential is left, so that the same command "
        "goes on from there. `fleet-agent uninstall` removes that too."
    )


def _preflight(wish: Wish, plan: ServicePlan | None, say: Say) -> None:
    if plan is not None:
        check_manager(wish.kind)
    faults = list(state_faults(wish.settings.state))
    if plan is not None and plan.account is not None:
        faults += out_of_reach(needed(wish.settings.python), account_reader(plan.account))
    if faults:
        raise AgentError("\n".join(faults))
    say(f"preflight: Python {platform.python_version()}, room and reach for {wish.kind} service")


async def _find_coordinator(wish: Wish, say: Say) -> None:
    """No secret is sent before the certificate is the pinned one and the clocks agree."""
    uplink = connect(wish.settings.server, wish.pin, wish.settings.state, lambda: None)
    try:
        check_clock(datetime.now(UTC), await uplink.time_there())
    except Unreachable as error:
        raise CoordinatorAway(f"{error}. Is the address right, and its port open?") from None
    except Refused as refusal:
        raise AgentError(f"{wish.settings.server} is no coordinator: {refusal}") from None
    finally:
        await uplink.close()
    pinned = "its certificate is the token's" if wish.pin else "trusted as this system trusts"
    say(f"trust: {wish.settings.server}, {pinned}; the clocks agree")


def _prepare(wish: Wish, plan: ServicePlan | None, say: Say, undo: ExitStack) -> None:
    account, state = plan.account if plan else None, wish.settings.state
    if account is not None and make_account(account, undo):
        say(f"account: made {account}")
    make_state(state, account, undo)
    for line in in_context(plan, wish.trial, state).splitlines():
        say(f"self-test: {line}")


async def _register(wish: Wish, plan: ServicePlan | None, say: Say, undo: ExitStack) -> bool:
    """Whether the token was needed: who repeats the command is enrolled already."""
    settings, state = wish.settings, wish.settings.state
    known = Enrolment.read(state)
    if known is not None and known.server == settings.server and await _is_accepted(wish, known):
        say(f"credential: {known.name} is enrolled already; the token was not used")
        return False
    if plan is not None and is_running(plan):
        raise AgentError(
            "An agent runs as that service with a credential that is refused: fleet-agent uninstall first."
        )
    own = _own_secret(wish, undo)
    try:
        await _present(wish, own)
    except CoordinatorAway:
        undo.pop_all()  # its answer may be what was lost: the secret stays, for the command to be repeated
        raise
    undo.pop_all()
    try:
        credential.settle(state)
        if plan is not None and plan.account is not None:
            hand_over(state, plan.account)
    except OSError as error:
        raise AgentError(f"The state folder {state} cannot be written: {error.strerror}.") from None
    say(f"credential: {own.name} has {own.credential_id}; {state / 'credential'} is for this account alone")
    return True


def _own_secret(wish: Wish, undo: ExitStack) -> Enrolment:
    """On disk before anybody hears of it; the one that an interrupted enrolment left, where there is one."""
    settings, state = wish.settings, wish.settings.state
    folder = StateFolder(state)
    folder.close()
    own = Enrolment(
        server=settings.server,
        worker=folder.worker,
        name=settings.name,
        credential=str(make("agent")),
        pin=wish.pin,
        made_at=datetime.now(UTC),
    )
    left = Enrolment.read(state, pending=True)
    if left is not None and left.model_copy(
        update={"credential": "", "made_at": own.made_at}
    ) == own.model_copy(update={"credential": ""}):
        return left
    try:
        own.note_pending(state)
    except OSError as error:
        raise AgentError(f"The state folder {state} cannot be written: {error.strerror}.") from None
    undo.callback(credential.forget_pending, state)
    return own


async def _present(wish: Wish, own: Enrolment) -> None:
    uplink = connect(own.server, own.pin, wish.settings.state, lambda: wish.token)
    try:
        await uplink.enrol(
            EnrolRequest(
                **own.request().model_dump(),
                name=own.name,
                protocol=PROTOCOL,
                client_time=datetime.now(UTC),
            )
        )
    except Unreachable as error:
        raise CoordinatorAway(
            f"{error}: the token may be used or not. Repeat the command as it was."
        ) from None
    except Refused as refusal:
        further = f" ({refusal.problem.next})" if refusal.problem.next else ""
        raise AgentError(f"{refusal.problem.code}: {refusal}{further}") from None
    finally:
        await uplink.close()


async def _is_accepted(wish: Wish, known: Enrolment) -> bool:
    uplink = connect(known.server, known.pin, wish.settings.state, lambda: known.credential)
    try:
        await uplink.check()
    except Unreachable as error:
        raise CoordinatorAway(f"{error}.") from None
    except Refused:
        return False
    finally:
        await uplink.close()
    return True


async def _serve(state: Path, plan: ServicePlan, say: Say, undo: ExitStack, *, is_new: bool) -> None:
    if not is_new and is_running(plan) and (state / "heard").exists():
        say("service: it runs, and was heard")
        return
    (state / "heard").unlink(missing_ok=True)
    install(plan, undo)
    say(f"service: {', '.join(str(file.path) for file in plan.files)}, started")
    await until_heard(state, plan, HEARD_SECONDS)
    say("heard: the coordinator took the service's own hello")
