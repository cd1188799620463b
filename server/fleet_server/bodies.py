"""Bodies are bounded while they are read; one that is too long is refused with a problem like every other."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message


def capped(request: Request, limit: int) -> Request:
    """The same request, whose body ends in a 413 once it is longer than `limit` bytes."""
    length = 0

    async def receive() -> Message:
        nonlocal length
        message = await request.receive()
        length += len(message.get("body", b""))
        if length > limit:
            # not a Refusal: FastAPI passes only its own kind of error through from reading a body
            raise HTTPException(413, f"The body has more than the {limit} bytes that are accepted here.")
        return message

    return Request(request.scope, receive)
