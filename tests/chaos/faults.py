"""How each fault of the schedule is brought about, and undone."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable

import psutil

from tests.chaos.disk import SmallDisk
from tests.chaos.fleet import Fleet, Machine, Post, group
from tests.chaos.proxy import Weather
from tests.chaos.schedule import WEIGHTS, Fault
from tests.e2e.programs import living_in

Deed = Callable[[Fleet, Fault], Awaitable[None]]


def possible(fleet: Fleet) -> list[str]:
    """The kinds of fault that this machine and this database allow."""
    disks = {"fill the disk of an agent": fleet.state_disk, "fill the disk of logs": fleet.logs_disk}
    never = {kind for kind, disk in disks.items() if not disk.works}
    if fleet.database is not None:
        never |= {"back up", "restore"}
    return [kind for kind in WEIGHTS if kind not in never]


async def inflict(fleet: Fleet, fault: Fault) -> None:
    await DEEDS[fault.kind](fleet, fault)
    fleet.sometimes[f"fault: {fault.kind}"] += 1


def _victim(fleet: Fleet, fault: Fault) -> Machine:
    return fleet.machines[fault.victim % len(fleet.machines)]


async def _end(post: Post, number: signal.Signals, seconds: float) -> None:
    async with post.lock:
        post.signal(number)
        await post.gone()
        await asyncio.sleep(seconds)
        post.start()


async def _pause(post: Post, seconds: float) -> None:
    async with post.lock:
        post.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        post.signal(signal.SIGCONT)


async def _kill_coordinator(fleet: Fleet, fault: Fault) -> None:
    async with fleet.server.lock:
        fleet.server.signal(signal.SIGKILL)
        await fleet.server.gone()
        _tear(fleet)
        await asyncio.sleep(fault.seconds / 2)
        fleet.server.start()


def _tear(fleet: Fleet) -> None:
    """As a batch that was under way and never acknowledged: bytes behind the end of the log that grew last."""
    with contextlib.suppress(OSError, ValueError):
        youngest = max(fleet.data.glob("logs/*/*.log"), key=lambda path: path.stat().st_mtime)
        with youngest.open("ab") as log:
            log.write(b"torn" * 100)


async def _stop_coordinator(fleet: Fleet, fault: Fault) -> None:
    await _end(fleet.server, signal.SIGTERM, fault.seconds / 2)


async def _pause_coordinator(fleet: Fleet, fault: Fault) -> None:
    await _pause(fleet.server, fault.seconds)


async def _kill_agent(fleet: Fleet, fault: Fault) -> None:
    await _end(_victim(fleet, fault).post, signal.SIGKILL, fault.seconds)


async def _drain_agent(fleet: Fleet, fault: Fault) -> None:
    await _end(_victim(fleet, fault).post, signal.SIGTERM, fault.seconds)


async def _hurry_agent(fleet: Fleet, fault: Fault) -> None:
    """SIGTERM, and again before it is done."""
    post = _victim(fleet, fault).post
    async with post.lock:
        for _ in range(2):
            post.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
        await post.gone()
        post.start()


async def _renew_agent(fleet: Fleet, fault: Fault) -> None:
    """Once it registered: one that only begins heeds no signals yet, and would end, as any program does."""
    post = _victim(fleet, fault).post
    if "registered as" in post.program.said():
        post.signal(signal.SIGHUP)


async def _pause_agent(fleet: Fleet, fault: Fault) -> None:
    await _pause(_victim(fleet, fault).post, fault.seconds)


async def _sleep(fleet: Fleet, fault: Fault) -> None:
    """The whole machine: agent and trainers."""
    machine = _victim(fleet, fault)
    async with machine.post.lock:
        machine.post.signal(signal.SIGSTOP)
        asleep = [process for attempt in machine.attempts() for process in group(attempt)]
        _signal(asleep, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        _signal(asleep, signal.SIGCONT)
        machine.post.signal(signal.SIGCONT)


async def _reboot(fleet: Fleet, fault: Fault) -> None:
    """Everything is gone at once, and the machine has another life."""
    machine = _victim(fleet, fault)
    async with machine.post.lock:
        machine.post.signal(signal.SIGSTOP)  # so that it sees nothing of what follows
        _signal(await asyncio.to_thread(living_in, machine.state), signal.SIGKILL)
        await machine.post.gone()
        machine.boot += 1
        await asyncio.sleep(fault.seconds / 4)
        machine.post.start()


async def _kill_supervisor(fleet: Fleet, fault: Fault) -> None:
    _signal(_family(fleet, fault)[:1], signal.SIGKILL)


async def _kill_trainer(fleet: Fleet, fault: Fault) -> None:
    _signal(_family(fleet, fault)[1:], signal.SIGKILL)


async def _pause_trainer(fleet: Fleet, fault: Fault) -> None:
    family = _family(fleet, fault)
    _signal(family, signal.SIGSTOP)
    await asyncio.sleep(fault.seconds)
    _signal(family, signal.SIGCONT)


def _family(fleet: Fleet, fault: Fault) -> list[psutil.Process]:
    """Supervisor and trainer of some attempt of the victim."""
    families = [found for attempt in _victim(fleet, fault).attempts() if (found := group(attempt))]
    return random.Random(fault.at).choice(families) if families else []


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it knows its process by the start time too
            process.send_signal(number)


async def _cut(fleet: Fleet, fault: Fault) -> None:
    _victim(fleet, fault).link.cut()


async def _half_close(fleet: Fleet, fault: Fault) -> None:
    _victim(fleet, fault).link.half_close()


async def _weather(fleet: Fleet, fault: Fault) -> None:
    link = _victim(fleet, fault).link
    link.become(Weather(fault.kind))
    await asyncio.sleep(fault.seconds)
    link.become(Weather.CLEAR)


async def _fill_state(fleet: Fleet, fault: Fault) -> None:
    await _fill(fleet.state_disk, fault.seconds)


async def _fill_logs(fleet: Fleet, fault: Fault) -> None:
    await _fill(fleet.logs_disk, fault.seconds)


async def _fill(disk: SmallDisk, seconds: float) -> None:
    disk.fill()
    await asyncio.sleep(seconds)
    disk.make_room()


async def _back_up(fleet: Fleet, _: Fault) -> None:
    await asyncio.to_thread(fleet.back_up)


async def _restore(fleet: Fleet, fault: Fault) -> None:
    """The coordinator ends in some way, and comes back with what it knew a while ago."""
    if not fleet.backups:
        await asyncio.to_thread(fleet.back_up)
        await asyncio.sleep(fault.seconds)
    async with fleet.server.lock:
        fleet.server.signal(random.Random(fault.at).choice((signal.SIGTERM, signal.SIGKILL)))
        await fleet.server.gone()
        await asyncio.to_thread(fleet.restore, fleet.backups[-1])
        fleet.server.start()


DEEDS: dict[str, Deed] = {
    "kill the coordinator": _kill_coordinator,
    "stop the coordinator": _stop_coordinator,
    "pause the coordinator": _pause_coordinator,
    "kill an agent": _kill_agent,
    "drain an agent": _drain_agent,
    "hurry an agent": _hurry_agent,
    "renew an agent": _renew_agent,
    "pause an agent": _pause_agent,
    "sleep": _sleep,
    "reboot": _reboot,
    "kill a supervisor": _kill_supervisor,
    "kill a trainer": _kill_trainer,
    "pause a trainer": _pause_trainer,
    "cut": _cut,
    "half-close": _half_close,
    **dict.fromkeys(("refusing", "frozen", "deaf", "slow", "throttled", "no_websocket"), _weather),
    "fill the disk of an agent": _fill_state,
    "fill the disk of logs": _fill_logs,
    "back up": _back_up,
    "restore": _restore,
}
assert DEEDS.keys() == WEIGHTS.keys()
