"""Asks for work: one long poll at a time while a slot is free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from fleet_agent.state import StateFolder
from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.errors import Code
from fleet_protocol.workers import ClaimAnswer, ClaimRequest

log = structlog.get_logger()


class Slots:
    """How many jobs may run at once, and how many do."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._freed = asyncio.Event()

    def take(self) -> None:
        self._taken += 1

    def give(self) -> None:
        self._taken -= 1
        self._freed.set()

    async def free(self) -> None:
        """Wait until there is a free one; adopted attempts may have taken more than there are."""
        while self._taken >= self._total:
            self._freed.clear()
            await self._freed.wait()


class Claims:
    """The claim loop. `on_job` takes a slot for what was granted; `introduce` says hello again."""

    def __init__(
        self,
        uplink: Uplink,
        state: StateFolder,
        slots: Slots,
        *,
        wait: float,
        on_job: Callable[[ClaimAnswer], None],
        introduce: Callable[[], Awaitable[None]],
    ) -> None:
        self._uplink = uplink
        self._state = state
        self._slots = slots
        self._wait = wait
        self._on_job = on_job
        self._introduce = introduce

    async def run(self) -> None:
        tries = 0
        while True:
            await self._slots.free()
            try:
                await self._ask(self._wait)
            except (Unreachable, Refused, OSError) as error:
                if isinstance(error, Refused) and error.problem.code == Code.UNKNOWN_WORKER:
                    await self._introduce()
                    continue
                if not isinstance(error, Unreachable):
                    log.warning(f"no claim possible: {error}", action="claim_refused")
                await self._uplink.pause(self._uplink.delay(tries))
                tries += 1
            else:
                tries = 0

    async def give_back(self) -> None:
        """After `run` was cancelled: a claim on its way may have been granted. What comes is on disk, not begun."""
        if self._state.pending_claim() is not None:
            try:
                await self._ask(0)
            except (Unreachable, Refused, OSError) as error:
                log.warning(f"a claim is left open: {error}", action="claim_left_open")

    async def _ask(self, wait: float) -> None:
        """One question. Its id stays on disk until it is answered, whatever becomes of this process."""
        claim = self._state.pending_claim() or self._state.new_claim()
        try:
            answer = await self._uplink.claim(
                ClaimRequest(worker=self._state.worker, claim_id=claim, wait=wait)
            )
        except Refused as refusal:
            if not is_recoverable(refusal):
                self._state.settle_claim()
            raise
        if answer is not None:
            self._on_job(answer)
        self._state.settle_claim()
