"""Every error leaves as RFC 9457 problem+json, on HTTP and on a websocket that is not accepted yet.

Nothing of the request is echoed: a body may hold a token.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection

from fleet_protocol.errors import PROBLEM_JSON, Code, Problem, ProblemItem
from fleet_server.errors import LogDamaged, NotAuthenticated, Refusal, StorageFull
from fleet_server.logs.closed import Damaged

log = structlog.get_logger()

HTTP_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.TOO_LARGE,
}

KEY_CHARS = 100


def install(app: FastAPI) -> None:
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(WebSocketRequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(Damaged, _damaged)
    app.add_exception_handler(Exception, _internal)


def render(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status_code=problem.status, media_type=PROBLEM_JSON, headers=headers)


async def _refusal(request: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    log.info("refused", code=error.code, path=request.scope.get("path"))
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, NotAuthenticated) else None
    return render(error.problem(), headers)


async def _invalid(_: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    items = tuple(
        ProblemItem(key=".".join(str(part)[:KEY_CHARS] for part in entry["loc"]), message=str(entry["msg"]))
        for entry in error.errors()[:50]
    )
    detail = "; ".join(f"{item.key}: {item.message}" for item in items[:3])
    return render(
        Problem(
            title="invalid request",
            status=422,
            detail=f"The request does not have the form it should have: {detail}",
            code=Code.INVALID_REQUEST,
            errors=items,
        )
    )


async def _http(_: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, Code.INVALID_REQUEST)
    problem = Problem(
        title=code.replace("_", " "), status=error.status_code, detail=str(error.detail), code=code
    )
    return render(problem, dict(error.headers) if error.headers else None)


async def _gone(_: HTTPConnection, __: Exception) -> Response:
    """A caller that went away in the middle of its body; if a proxy's caller reads this, it may try again."""
    return Response(status_code=408)


async def _database(request: Request, error: Exception) -> Response:
    """SQLite says in words only that the disk is full; nothing was written, and there may be room later."""
    if "disk is full" in str(error):
        return await _refusal(request, StorageFull())
    return await _internal(request, error)


async def _damaged(_: HTTPConnection, error: Exception) -> Response:
    log.error("log_damaged", why=str(error))
    return render(LogDamaged(f"{error}. A backup may have it whole.").problem())


async def _internal(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.scope.get("path"), exc_info=error)
    return render(
        Problem(
            title="internal error",
            status=500,
            detail="The coordinator failed to carry this out; its log has the reason. Nothing was changed.",
            code=Code.INTERNAL,
        )
    )
