"""What every route that takes or shows an upload has in common: its headers."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Path, Request, Response

from fleet_protocol.ids import SHA256_PATTERN, Sha256
from fleet_protocol.workers import UploadAnswer
from fleet_server.content import Part
from fleet_server.errors import Malformed

Digest = Annotated[Sha256, Path(pattern=SHA256_PATTERN)]


def part_of(request: Request) -> Part:
    """The whole by its Content-Length, or what `Content-Range: bytes START-END/TOTAL` says; Malformed."""
    content_range, content_length = map(request.headers.get, ("content-range", "content-length"))
    if content_range is None:
        if content_length is None or not content_length.isdecimal():
            raise Malformed("An upload needs Content-Length, or Content-Range where it goes on.")
        return Part(0, int(content_length), int(content_length))
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", content_range)
    if match is None or not int(match[1]) <= int(match[2]) + 1 <= int(match[3]):
        raise Malformed(
            "Content-Range must be `bytes START-END/TOTAL`, with END counted from 0 and inside TOTAL."
        )
    return Part(int(match[1]), int(match[2]) + 1, int(match[3]))


def taken(answer: UploadAnswer, response: Response) -> UploadAnswer:
    """201 when this request was the last that was needed, 200 otherwise."""
    response.status_code = 201 if answer.stored else 200
    return answer


def state(offset: int, whole: bool) -> Response:
    """`Upload-Offset`, and `Upload-Complete: ?1` when nothing is missing; 404 where nothing is there."""
    headers = {"Upload-Offset": str(offset), "Upload-Complete": "?1" if whole else "?0"}
    return Response(status_code=200 if offset or whole else 404, headers=headers)
