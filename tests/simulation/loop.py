"""An event loop whose clock jumps to the next timer once nothing is ready: virtual hours cost what they compute.

No socket, no thread and no real second: what would run in a thread is carried out in place, and its result comes
a drawn moment later. So one seed gives one history.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = 1000.0
DIAL: ContextVar[Callable[[Callable[[], Any]], Awaitable[tuple[Any, Any]]]] = ContextVar("dial")


class Stuck(Exception):
    """Everybody waits for something that no timer will bring."""


class _Timers(selectors.SelectSelector):
    """Where a real selector would sleep, time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = EPOCH

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`luck` draws how long disk and threads take; `mishaps` are errors that nobody caught."""

    def __init__(self, luck: random.Random) -> None:
        self._timers = _Timers()
        super().__init__(self._timers)
        self.luck = luck
        self.mishaps: list[str] = []
        self.set_exception_handler(self._on_mishap)

    def time(self) -> float:
        return self._timers.now

    def moment(self) -> float:
        """How long a disk or a thread takes: mostly a few milliseconds, now and then much longer."""
        return self.luck.expovariate(500) if self.luck.random() < 0.98 else self.luck.uniform(0.05, 3.0)

    def _write_to_self(self) -> None:
        """Nobody wakes this loop from outside."""

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]  # a future as well
        future: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for it
            self.call_later(self.moment(), _fail, future, error)
        else:
            self.call_later(self.moment(), _give, future, result)
        return future

    async def create_connection(self, factory: Callable[[], Any], *_: Any, **__: Any) -> Any:  # type: ignore[override]  # the one use of it here
        """Whoever speaks in this task has a way of its own to dial."""
        return await DIAL.get()(factory)

    def _on_mishap(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.mishaps.append(f"{context['message']}: {context.get('exception')!r}")


def _give(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], seed: int) -> T:
    """Run `main` to its end in a loop of its own."""
    loop = VirtualLoop(random.Random(f"{seed} loop"))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))
