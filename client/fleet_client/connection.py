"""Requests to one coordinator: sent, sent again where that does no harm, and answered with a model or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from fleet_client.answers import parsed, problem_of
from fleet_client.errors import NotAuthenticated, Unreachable, refused
from fleet_client.settings import Target, checked_url
from fleet_protocol.errors import Code, Problem
from fleet_protocol.local import is_loopback
from fleet_protocol.version import program_version
from fleet_protocol.wire import Request

TIMEOUT = httpx.Timeout(60, connect=5)
LONG_TIMEOUT = httpx.Timeout(60, connect=5, read=900)  # many gigabytes are read again before an answer
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
TRIES = 3  # of a request that may be repeated; others are sent once
LONGEST_PAUSE_SECONDS = 3.0

Query = Sequence[tuple[str, str | int]]
Model = TypeVar("Model", bound=BaseModel)


class Connection:
    """What every method of the client sends through; `transport` replaces the network in tests."""

    _checked = staticmethod(checked_url)

    def __init__(
        self, url: str, token: str | None = None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.target = Target(self._checked(url), token)
        headers = {"User-Agent": f"fleet-client/{program_version()}"}
        if token:
            if not (token.isascii() and token.isprintable()):
                raise unusable_token()
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.AsyncClient(
            base_url=self.target.url,
            headers=headers,
            timeout=TIMEOUT,
            transport=transport,
            # A proxy from the environment is not meant for this machine.
            trust_env=not is_loopback(urlsplit(self.target.url).hostname or ""),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def _get(self, model: type[Model], path: str, query: Query = ()) -> Model:
        answer = await self._ask("GET", path, query, repeatable=True)
        return parsed(model, answer.content, self.target.url)

    async def _post(self, model: type[Model], path: str, body: Request, *, repeatable: bool = False) -> Model:
        answer = await self._ask("POST", path, body=body, repeatable=repeatable)
        return parsed(model, answer.content, self.target.url)

    async def _ask(
        self, method: str, path: str, query: Query = (), body: Request | None = None, *, repeatable: bool
    ) -> httpx.Response:
        """Sends until answered; only what may be sent twice without harm is (reading, planning, reloading)."""
        answer = await self._send(method, path, query, body, again=repeatable)
        for _ in range(TRIES - 1 if repeatable else 0):
            if answer.status_code not in (429, 503):
                break
            await asyncio.sleep(pause_of(answer))
            answer = await self._send(method, path, query, body)
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    async def _send(
        self, method: str, path: str, query: Query = (), body: Request | None = None, *, again: bool = True
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body else None
        content = body.model_dump_json(exclude_none=True) if body else None
        request = self._http.build_request(method, path, params=list(query), content=content, headers=headers)
        try:
            return await self._exchange(request)
        except Unreachable as error:
            # A kept connection that the other side closed in the meantime looks like this, once.
            if again and isinstance(error.__cause__, BROKEN):
                return await self._exchange(request)
            raise

    async def _transfer(
        self,
        method: str,
        path: str,
        *,
        content: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One try at what may be large."""
        request = self._http.build_request(
            method, path, content=content, headers=headers, timeout=LONG_TIMEOUT
        )
        answer = await self._exchange(request)
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    @asynccontextmanager
    async def _streamed(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[httpx.Response]:
        """The answer to one GET, whose body is still to come."""
        request = self._http.build_request("GET", path, headers=headers)
        try:
            answer = await self._http.send(request, stream=True)
            try:
                if not answer.is_success:
                    await answer.aread()
                    raise self._refusal(answer)
                yield answer
            finally:
                await answer.aclose()
        except httpx.RequestError as error:
            raise self._unanswered(error) from error

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request)
        except httpx.RequestError as error:
            raise self._unanswered(error) from error

    def _unanswered(self, error: httpx.RequestError) -> Unreachable:
        return Unreachable(f"No answer from {self.target.url}: {str(error) or type(error).__name__}.")

    def _refusal(self, answer: httpx.Response) -> Exception:
        return refused(problem_of(answer.status_code, answer.content, self.target.url))


def unusable_token() -> NotAuthenticated:
    detail = "The token has a character that none of fleet's tokens has: they are plain ASCII."
    return NotAuthenticated(
        Problem(title="Not a token", status=401, detail=detail, code=Code.NOT_AUTHENTICATED)
    )


def pause_of(answer: httpx.Response) -> float:
    """Seconds to wait, as the coordinator wishes and within reason."""
    try:
        return min(max(float(answer.headers.get("Retry-After", 0.5)), 0.05), LONGEST_PAUSE_SECONDS)
    except ValueError:  # a date
        return LONGEST_PAUSE_SECONDS
