"""The agent as a process: its signals, its settings' defects, and how it takes its own place.

SIGTERM and Ctrl-C drain. SIGHUP starts the program anew in the same process, which is how an upgrade of the code is
taken up: the trainers go on, the lock on the state folder is kept, and what is said to this process meanwhile waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import structlog

from fleet_agent.agent import Agent
from fleet_agent.credential import Enrolment, bearer, forget, pin_for
from fleet_agent.errors import AgentError, CopiedFolder
from fleet_agent.hardware import detect
from fleet_agent.renewal import renew
from fleet_agent.settings import Settings, Timing
from fleet_agent.state import StateFolder
from fleet_agent.uplink import Uplink, connect
from fleet_protocol.capability import Capability

log = structlog.get_logger()


async def run_agent(settings: Settings, timing: Timing) -> bool:
    """Run until a signal ends it; True when `start_anew` is to follow.

    AgentError says what is wrong with the settings or the coordinator.
    """
    if sys.platform == "win32":
        raise AgentError(
            "This version of fleet-agent cannot run jobs on Windows yet; run it on Linux or macOS."
        )
    state = StateFolder(settings.state)
    uplink = connect(
        settings.server,
        pin_for(settings),
        settings.state,
        bearer(settings),
        retry_ceiling=timing.retry_ceiling,
    )
    try:
        await renew(settings, uplink, datetime.now(UTC))
        findings = await detect(settings)
        for complaint in findings.complaints:
            log.warning(complaint, action="complaint")
        try:
            is_succeeded = await _live(settings, timing, state, uplink, findings.capability)
        except CopiedFolder as error:
            state.become_another()
            if Enrolment.read(settings.state) is not None:
                forget(settings.state)
                raise AgentError(
                    f"{error}, its credential too: enrol this machine by a token of its own."
                ) from None
            log.warning(f"{error}: this agent becomes another worker", action="identity_changed")
            is_succeeded = await _live(settings, timing, state, uplink, findings.capability)
        if is_succeeded:
            state.hand_over()
        return is_succeeded
    finally:
        await uplink.close()
        state.close()


async def _live(
    settings: Settings, timing: Timing, state: StateFolder, uplink: Uplink, capability: Capability
) -> bool:
    agent = Agent(settings, timing, state=state, uplink=uplink, capability=capability)
    heed_signals(agent)
    try:
        return await agent.run()
    except ExceptionGroup as errors:
        raise _cause(errors) from errors


def _cause(error: Exception) -> Exception:
    """The refusal in a group of failures, else its first failure."""
    if not isinstance(error, ExceptionGroup):
        return error
    return _cause((error.subgroup(AgentError) or error).exceptions[0])


def heed_signals(agent: Agent) -> None:
    """Signals call the agent inside the loop, as long as that lives."""
    loop, endings = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
    is_detached = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # by nohup
    has_terminal = not is_detached and _has_terminal()

    def end(number: signal.Signals) -> None:
        if agent.is_succeeded:
            os.kill(os.getpid(), number)  # blocked by now, so it waits for whoever takes our place
        else:
            agent.on_signal()

    def hang_up() -> None:
        if has_terminal and not _has_terminal():  # nobody is there any more: no upgrade, but good-bye
            _fall_silent()
            agent.on_signal()
            return
        agent.on_succession()
        if agent.is_succeeded:
            signal.pthread_sigmask(signal.SIG_BLOCK, (*endings, signal.SIGHUP))

    for number in endings:
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*endings, signal.SIGHUP))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _fall_silent() -> None:
    """A terminal that is gone takes no word, and saying one would end us."""
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)


def start_anew() -> None:
    """The same program with the same arguments in this process; does not return. AgentError when it cannot be."""
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError as error:
        raise AgentError(
            f"{sys.executable} cannot be started anew: {error.strerror}. Start the agent again; running jobs go on."
        ) from None
