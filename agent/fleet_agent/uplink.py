"""Everything said to the coordinator over HTTP, and the one place that decides what is worth trying again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from fleet_agent.errors import AgentError
from fleet_agent.state import Outcome
from fleet_agent.waiting import is_set_within
from fleet_protocol.enrolment import CredentialRequest, EnrolAnswer, EnrolRequest
from fleet_protocol.errors import Code, Problem
from fleet_protocol.health import Health
from fleet_protocol.ids import AttemptId, JobId
from fleet_protocol.local import is_loopback
from fleet_protocol.logs import HOLE_HEADER, AppendAnswer, Hole
from fleet_protocol.metrics import MetricsAnswer, MetricsRequest
from fleet_protocol.workers import (
    CheckpointRequest,
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    HelloAnswer,
    HelloRequest,
    StartRequest,
    TransitionAnswer,
)

log = structlog.get_logger()
T = TypeVar("T")
AnswerModel = TypeVar("AnswerModel", bound=BaseModel)

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 30.0
DEFAULT_TIMEOUT = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
FIRST_DELAY_SECONDS = 0.5
NO_ATTEMPT = AttemptId("00000000-0000-0000-0000-000000000000")
PASSING_STATUSES = frozenset({401, 403, 408, 425, 429, 500, 502, 503, 504, 507})
SUPERSEDED = frozenset({Code.STALE_ATTEMPT, Code.WRONG_STATE})
PASSING_CODES = frozenset({Code.UNKNOWN_WORKER, Code.UPLOAD_OFFSET, Code.BUSY, Code.STORAGE_FULL})


class Unreachable(Exception):
    """No answer of a coordinator: nobody there, or somebody else."""


class Refused(Exception):
    """The coordinator said no."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after

    @property
    def is_superseded(self) -> bool:
        """The attempt does not count any more."""
        return self.problem.code in SUPERSEDED

    def durable(self) -> int | None:
        """The log's stored length that a refusal carries."""
        length = (self.problem.current or {}).get("durable")
        return length if isinstance(length, int) else None


def is_recoverable(error: Unreachable | Refused) -> bool:
    """True when the same request may succeed later. A token can be mended: no result is lost over a 401."""
    if isinstance(error, Unreachable):
        return True
    return error.problem.status in PASSING_STATUSES or error.problem.code in PASSING_CODES


class Uplink:
    """Typed calls, each tried once; `persist` is the retry policy around them."""

    def __init__(
        self,
        server: str,
        find_token: Callable[[], str | None],
        *,
        retry_ceiling: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`find_token` is asked again after a refusal: a local coordinator may start after its agent."""
        self.server = server.rstrip("/")
        self.is_loopback = is_loopback(urlsplit(server).hostname or "")
        self._find_token = find_token
        self._token: str | None = None
        self._ceiling = retry_ceiling
        self._back = asyncio.Event()
        self.is_away = False
        self.moved = 0.0
        """When something was last done for a transfer, on the loop's clock."""
        self._http = httpx.AsyncClient(
            base_url=self.server,
            transport=transport,
            trust_env=not self.is_loopback,  # a proxy is for elsewhere
        )

    async def close(self) -> None:
        await self._http.aclose()

    def authorization(self) -> dict[str, str]:
        """Refused, without being sent, when the token is such as no coordinator issues."""
        self._token = token = self._token or self._find_token()
        if token and not (token.isascii() and token.isprintable()):
            self._token = None
            raise Refused(
                Problem(
                    title="Not a token",
                    status=httpx.codes.UNAUTHORIZED,
                    detail="the token has characters that no token has; copy it anew into FLEET_TOKEN",
                    code=Code.NOT_AUTHENTICATED,
                )
            )
        return {"Authorization": f"Bearer {token}"} if token else {}

    # Calls

    async def check(self) -> None:
        """Raise if the coordinator cannot be reached or refuses our token. Changes nothing there."""
        try:
            await self.log_length(NO_ATTEMPT)
        except Refused as refusal:
            if refusal.problem.status != httpx.codes.NOT_FOUND:
                raise

    async def time_there(self) -> datetime:
        """The coordinator's clock, to the second."""
        response = await self.send("GET", "/v1/health")
        parse(response, Health)
        try:
            return parsedate_to_datetime(response.headers["Date"]).replace(tzinfo=UTC)
        except (KeyError, ValueError):
            raise Unreachable(f"{response.url} answers without a date") from None

    async def enrol(self, body: EnrolRequest) -> EnrolAnswer:
        return await self._post("/v1/enrol", body, EnrolAnswer)

    async def replace_credential(self, body: CredentialRequest) -> None:
        await self.send("POST", "/v1/worker/credential", content=body.model_dump_json())

    def forget_token(self) -> None:
        """It is another from now on."""
        self._token = None

    async def hello(self, body: HelloRequest) -> HelloAnswer:
        return await self._post("/v1/worker/hello", body, HelloAnswer)

    async def claim(self, body: ClaimRequest) -> ClaimAnswer | None:
        """None when nothing fits within `body.wait`."""
        wait = httpx.Timeout(ANSWER_SECONDS + body.wait, connect=CONNECT_SECONDS)
        response = await self.send("POST", "/v1/job/claim", content=body.model_dump_json(), timeout=wait)
        return None if response.status_code == httpx.codes.NO_CONTENT else parse(response, ClaimAnswer)

    async def start(self, job: JobId, body: StartRequest) -> TransitionAnswer:
        return await self._post(f"/v1/job/{job}/start", body, TransitionAnswer)

    async def heartbeat(self, job: JobId, body: HeartbeatRequest) -> HeartbeatAnswer:
        return await self._post(f"/v1/job/{job}/heartbeat", body, HeartbeatAnswer)

    async def send_metrics(self, attempt: AttemptId, body: MetricsRequest) -> MetricsAnswer:
        return await self._post(f"/v1/attempt/{attempt}/metrics", body, MetricsAnswer)

    async def report(self, job: JobId, outcome: Outcome) -> TransitionAnswer:
        if isinstance(outcome, CompleteRequest):
            verb = "complete"
        else:
            verb = "fail" if isinstance(outcome, FailRequest) else "release"
        return await self._post(f"/v1/job/{job}/{verb}", outcome, TransitionAnswer)

    async def checkpoint(self, attempt: AttemptId, body: CheckpointRequest) -> TransitionAnswer:
        path = f"/v1/attempt/{attempt}/checkpoint"
        return parse(await self.send("PUT", path, content=body.model_dump_json()), TransitionAnswer)

    async def log_length(self, attempt: AttemptId) -> int:
        """From which offset the coordinator wants an attempt's log."""
        return number(await self.send("HEAD", f"/v1/attempt/{attempt}/log"), "Upload-Offset")

    async def append_log(self, attempt: AttemptId, offset: int, piece: bytes | Hole) -> int:
        """The stored length afterwards. Refused carries it when `offset` is beyond it."""
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        data = piece if isinstance(piece, bytes) else b""
        if isinstance(piece, Hole):
            headers[HOLE_HEADER] = str(piece.length)
        response = await self.send("PATCH", f"/v1/attempt/{attempt}/log", content=data, headers=headers)
        return parse(response, AppendAnswer).durable

    def moves(self) -> None:
        """A block of what is transferred was packed, or went. From any thread."""
        self.moved = time.monotonic()

    # Retries

    async def persist(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        recoverable: Callable[[Unreachable | Refused], bool] = is_recoverable,
    ) -> T:
        """Try until it is answered. Refused when trying again cannot help; `what` says what waits, in the log."""
        tries = 0
        while True:
            try:
                return await call()
            except (Unreachable, Refused) as error:
                if not recoverable(error):
                    raise
                asked = error.retry_after if isinstance(error, Refused) else None
                delay = asked if asked is not None else self.delay(tries)
                tries += 1
                if isinstance(error, Refused) or (tries == 1 and not self.is_away):
                    log.warning(
                        f"cannot {what}, trying again: {error}",
                        action="retry",
                        what=what,
                        seconds=round(delay, 1),
                    )
                await self.pause(delay)

    def delay(self, tries: int) -> float:
        """Seconds before the next try: doubling, with jitter, up to the ceiling."""
        longest = min(self._ceiling, FIRST_DELAY_SECONDS * 2 ** min(tries, 10))
        return random.uniform(longest / 2, longest)

    async def pause(self, seconds: float) -> None:
        """Wait, but not past the moment when the coordinator is heard again."""
        await is_set_within(self._back, seconds)

    def wake(self) -> None:
        """End every pause: whatever failed before may succeed now."""
        self._back.set()
        self._back = asyncio.Event()

    # One request

    async def _post(self, path: str, body: BaseModel, answer: type[AnswerModel]) -> AnswerModel:
        return parse(await self.send("POST", path, content=body.model_dump_json()), answer)

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: str | bytes | AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: httpx.Timeout = DEFAULT_TIMEOUT,
    ) -> httpx.Response:
        sent = {"Content-Type": "application/json"} | self.authorization() | (headers or {})
        with self._telling_of_loss():
            response = await self._http.request(method, path, content=content, headers=sent, timeout=timeout)
        self._require_success(response)
        return response

    @contextlib.asynccontextmanager
    async def receive(self, path: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """GET with the body still to come; losing the connection over it is Unreachable too."""
        sent = {"Accept-Encoding": "identity"} | self.authorization() | headers
        with self._telling_of_loss():
            async with self._http.stream("GET", path, headers=sent, timeout=DEFAULT_TIMEOUT) as response:
                if not response.is_success:
                    await response.aread()
                self._require_success(response)
                yield response

    @contextlib.contextmanager
    def _telling_of_loss(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            self._lost(error)
            raise Unreachable(f"{self.server} does not answer ({_first_line(error)})") from None

    def _require_success(self, response: httpx.Response) -> None:
        """Refused when the coordinator says no."""
        if response.is_success:
            self._heard()
            return
        refusal = _refusal(response)
        if refusal.problem.status == httpx.codes.UNAUTHORIZED:
            self._token = None
        raise refusal

    def _lost(self, error: httpx.TransportError) -> None:
        if not self.is_away:
            self.is_away = True
            self._back.clear()
            log.warning(
                f"waiting for the coordinator at {self.server}; what runs goes on",
                action="coordinator_away",
                error=_first_line(error),
            )

    def _heard(self) -> None:
        if self.is_away:
            self.is_away = False
            self.wake()
            log.info("the coordinator is back", action="coordinator_back")


def connect(
    server: str,
    pin: str | None,
    state: Path,
    find_token: Callable[[], str | None],
    *,
    retry_ceiling: float = 30.0,
) -> Uplink:
    """An uplink that trusts the certificate of `pin`, kept in `state`, alone. AgentError where another is shown."""
    if pin is not None:
        raise AgentError("this version cannot pin certificates yet")
    return Uplink(server, find_token, retry_ceiling=retry_ceiling)


def parse(response: httpx.Response, model: type[AnswerModel]) -> AnswerModel:
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise Unreachable(f"{response.url} answers, but not as a fleet coordinator does") from None


def _refusal(response: httpx.Response) -> Refused:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        text = (
            f"{response.request.method} {response.url.path}: {response.status_code} {response.reason_phrase}"
        )
        problem = Problem(title=text, status=response.status_code, detail=text, code="")
    seconds = response.headers.get("Retry-After", "")
    return Refused(problem, float(seconds) if seconds.isdigit() else None)


def number(response: httpx.Response, header: str) -> int:
    value = response.headers.get(header, "")
    if not value.isdigit():
        raise Unreachable(f"{response.url} answers without {header}")
    return int(value)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
