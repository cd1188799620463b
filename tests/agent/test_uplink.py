from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from fleet_agent.uplink import Refused, Unreachable, Uplink, is_recoverable
from fleet_protocol.errors import Code, Problem
from fleet_protocol.ids import AttemptId, new_attempt_id

ATTEMPT = AttemptId(new_attempt_id())


def refused(status: int, code: str = "") -> Refused:
    return Refused(Problem(title="no", status=status, detail="no", code=code))


@pytest.mark.parametrize(
    ("error", "recoverable"),
    [
        (Unreachable("x"), True),
        (refused(503, Code.BUSY), True),
        (refused(507, Code.STORAGE_FULL), True),
        (refused(429), True),
        (refused(401, Code.NOT_AUTHENTICATED), True),
        (refused(409, Code.UNKNOWN_WORKER), True),
        (refused(409, Code.UPLOAD_OFFSET), True),
        (refused(409, Code.STALE_ATTEMPT), False),
        (refused(404, Code.UNKNOWN_JOB), False),
        (refused(413, Code.TOO_LARGE), False),
        (refused(426, Code.PROTOCOL_TOO_OLD), False),
    ],
)
def test_what_is_worth_trying_again(error: Unreachable | Refused, recoverable: bool) -> None:
    assert is_recoverable(error) is recoverable


def answering(*answers: httpx.Response | Exception) -> tuple[Uplink, list[httpx.Request]]:
    """An uplink to somebody who gives these answers, one after the other."""
    left, seen = list(answers), []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    tokens = iter(["first", "second"])
    made = Uplink(
        "http://127.0.0.1", lambda: next(tokens), retry_ceiling=0.0, transport=httpx.MockTransport(answer)
    )
    return made, seen


def length(value: str) -> httpx.Response:
    return httpx.Response(200, headers={"Upload-Offset": value})


async def persisted(uplink: Uplink) -> int:
    return await uplink.persist("ask", lambda: uplink.log_length(ATTEMPT))


async def test_it_tries_until_it_is_answered() -> None:
    uplink, seen = answering(
        httpx.ConnectError("down"), httpx.Response(502), httpx.ReadTimeout("slow"), length("5")
    )
    assert await persisted(uplink) == 5
    assert len(seen) == 4
    assert not uplink.is_away


async def test_a_refusal_for_good_is_not_repeated() -> None:
    uplink, seen = answering(httpx.Response(404))
    with pytest.raises(Refused):
        await persisted(uplink)
    assert len(seen) == 1


async def test_the_coordinators_own_delay_is_honoured() -> None:
    uplink, _ = answering(httpx.Response(503, headers={"Retry-After": "17"}), length("1"))
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    uplink.pause = pause  # type: ignore[method-assign]  # the seam for waiting
    await persisted(uplink)
    assert waited == [17.0]


async def test_a_token_that_was_refused_is_looked_up_again() -> None:
    uplink, seen = answering(httpx.Response(401), length("1"))
    await persisted(uplink)
    assert [request.headers["Authorization"] for request in seen] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("answer", [lambda: httpx.Response(200), lambda: length("many")])
async def test_an_answer_of_somebody_else_is_no_answer(answer: Callable[[], httpx.Response]) -> None:
    uplink, _ = answering(answer())
    with pytest.raises(Unreachable):
        await uplink.log_length(ATTEMPT)


def test_delays_double_up_to_the_ceiling_with_jitter() -> None:
    uplink = Uplink("http://127.0.0.1", lambda: None, retry_ceiling=30.0)
    for tries, ceiling in ((0, 0.5), (1, 1.0), (3, 4.0), (10, 30.0), (10_000, 30.0)):
        delays = [uplink.delay(tries) for _ in range(50)]
        assert ceiling / 2 <= min(delays) < max(delays) <= ceiling
