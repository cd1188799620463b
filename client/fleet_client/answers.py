"""From bytes that a coordinator sent to the wire models, and to errors where they are none."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from fleet_client.errors import BadAnswer
from fleet_protocol.errors import Code, Problem
from fleet_protocol.version import DEFAULT_URL

CHECK_ADDRESS = f"give the coordinator's address without a path, like {DEFAULT_URL}"
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")

UPGRADE = (
    "compare the versions of this program and of the coordinator: fleet --version, fleet-server --version"
)


def parsed(model: type[Model], body: bytes | str, url: str) -> Model:
    """`body` as `model`; BadAnswer when it is not one."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _unreadable(model.__name__, error, url) from error


def adapted(adapter: TypeAdapter[T], body: bytes | str, url: str) -> T:
    """As `parsed`, for what is described by a type adapter."""
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise _unreadable(str(adapter), error, url) from error


def _unreadable(what: str, error: ValidationError, url: str) -> BadAnswer:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return BadAnswer(f"{url} answered with no readable {what}: {where}: {first['msg']}.", advice=UPGRADE)


def problem_of(status: int, body: bytes, url: str) -> Problem:
    """The problem in an error's body; one made up from the status when a proxy or a stranger answered."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        code = {401: Code.NOT_AUTHENTICATED, 403: Code.NOT_PERMITTED, 404: Code.NOT_FOUND}.get(status)
        return Problem(
            title=f"HTTP {status}",
            status=status,
            detail=f"{url} answered with HTTP {status} and no explanation: it may not be a coordinator.",
            code=code or (Code.INTERNAL if status >= 500 else Code.INVALID_REQUEST),
        )
    if problem.detail != "Not Found":  # a bare 404 of a path that nobody serves
        return problem
    detail = f"{url} has nothing at the address that was asked for."
    return problem.model_copy(update={"detail": detail, "next": f"{CHECK_ADDRESS}; else {UPGRADE}"})
