"""Asks for work: one long poll at a time while a slot is free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from fleet_agent.disk import Reserve
from fleet_agent.state import StateFolder
from fleet_agent.threads import in_thread
from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.errors import Code
from fleet_protocol.ids import Sha256
from fleet_protocol.states import ReleaseReason
from fleet_protocol.workers import ClaimAnswer, ClaimRequest, ReleaseRequest

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
    """The claim loop. `holds` names the blobs that are here, `on_job` takes a slot for what was granted, `introduce`
    says hello again."""

    def __init__(
        self,
        uplink: Uplink,
        state: StateFolder,
        slots: Slots,
        reserve: Reserve,
        *,
        wait: float,
        holds: Callable[[], tuple[Sha256, ...]],
        on_job: Callable[[ClaimAnswer], None],
        introduce: Callable[[], Awaitable[None]],
    ) -> None:
        self._uplink = uplink
        self._state = state
        self._slots = slots
        self._reserve = reserve
        self._wait = wait
        self._holds = holds
        self._on_job = on_job
        self._introduce = introduce
        self._has_room = True
        """What was last said of the state folder."""

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
                if isinstance(error, OSError):
                    self._say_room(error)
                elif isinstance(error, Refused):
                    log.warning(f"no claim possible: {error}", action="claim_refused")
                await self._uplink.pause(self._uplink.delay(tries))
                tries += 1
            else:
                tries = 0

    def _say_room(self, error: OSError | None = None) -> None:
        """Once when the state folder begins to fail, and once when it takes writes again."""
        if self._has_room is (error is None):
            return
        self._has_room = error is None
        if error:
            log.warning(
                f"the state folder {self._state.root} takes no write ({error.strerror}): "
                "no work is asked for until it does; make room there",
                action="claims_paused",
            )
        else:
            log.info("the state folder takes writes again", action="claims_resumed")

    async def give_back(self) -> None:
        """After `run` was cancelled: a claim on its way may have been granted. What comes is on disk, not begun."""
        if self._state.pending_claim() is not None:
            try:
                await self._ask(0)
            except (Unreachable, Refused, OSError) as error:
                log.warning(f"a claim is left open: {error}", action="claim_left_open")

    async def _ask(self, wait: float) -> None:
        """One question. Its id stays on disk until it is answered, whatever becomes of this process."""
        claim = self._state.pending_claim()
        if claim is None:
            self._reserve.take()
            claim = await in_thread(lambda _: self._state.new_claim())
            self._say_room()
        try:
            answer = await self._uplink.claim(
                ClaimRequest(worker=self._state.worker, claim_id=claim, wait=wait, holds=self._holds())
            )
        except Refused as refusal:
            if not is_recoverable(refusal):
                self._state.settle_claim()
            raise
        if answer is not None:
            try:
                self._on_job(answer)
            except OSError:
                await self._decline(answer)
                self._state.settle_claim()
                raise
        await in_thread(lambda _: self._state.settle_claim(answer.attempt if answer else None))

    async def _decline(self, answer: ClaimAnswer) -> None:
        """Give back a job that cannot be written down. Until that is heard, its claim's id brings it here again."""
        body = ReleaseRequest(
            worker=self._state.worker,
            attempt=answer.attempt,
            reason=ReleaseReason.NOT_STARTED,
            detail="the agent's state folder takes no write",
        )
        try:
            await self._uplink.report(answer.job.job_id, body)
        except Refused as refusal:
            if is_recoverable(refusal):
                raise
