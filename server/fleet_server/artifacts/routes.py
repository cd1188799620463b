"""`PUT`, `HEAD` and `GET /v1/model/{sha256}`, and the list of artifacts."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse

from fleet_protocol.ids import SHA256_PATTERN, UUID_PATTERN, AttemptId, Sha256
from fleet_protocol.jobs import ArtifactPage
from fleet_protocol.workers import UploadAnswer
from fleet_server.access.guard import GuardedRoute
from fleet_server.artifacts.service import Part
from fleet_server.errors import Malformed
from fleet_server.services import Use

router = APIRouter(prefix="/v1", tags=["artifacts"], route_class=GuardedRoute)
Digest = Annotated[Sha256, Path(pattern=SHA256_PATTERN)]
Attempt = Annotated[AttemptId, Query(pattern=UUID_PATTERN)]


@router.put("/model/{sha256}", status_code=201)
async def upload_artifact(
    sha256: Digest,
    attempt: Attempt,
    request: Request,
    response: Response,
    use: Use,
    content_range: Annotated[str | None, Header()] = None,
) -> UploadAnswer:
    """Stream an artifact, whole or from an offset (`Content-Range: bytes START-END/TOTAL`)."""
    part = _part(content_range, request.headers.get("content-length"))
    answer = await use.artifacts.upload(attempt, sha256, part, request.stream())
    response.status_code = 201 if answer.stored else 200
    return answer


def _part(content_range: str | None, content_length: str | None) -> Part:
    if content_range is None:
        if content_length is None or not content_length.isdecimal():
            raise Malformed("An upload needs Content-Length, or Content-Range where it goes on.")
        return Part(0, int(content_length))
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", content_range)
    if match is None or not int(match[1]) <= int(match[2]) + 1 <= int(match[3]):
        raise Malformed(
            "Content-Range must be `bytes START-END/TOTAL`, with END counted from 0 and inside TOTAL."
        )
    return Part(int(match[1]), int(match[3]))


@router.head("/model/{sha256}")
async def artifact_upload_state(sha256: Digest, attempt: Attempt, use: Use) -> Response:
    """How far an upload got: `Upload-Offset`, and `Upload-Complete: ?1` when it is whole."""
    offset, whole = await use.artifacts.state(attempt, sha256)
    headers = {"Upload-Offset": str(offset), "Upload-Complete": "?1" if whole else "?0"}
    return Response(status_code=200 if offset or whole else 404, headers=headers)


@router.get("/model/{sha256}", response_class=FileResponse)
async def get_artifact(sha256: Digest, use: Use) -> FileResponse:
    """The bundle's bytes; ranges are answered."""
    path = await use.artifacts.path(sha256)
    return FileResponse(path, media_type="application/zstd", filename=f"{sha256}.tar.zst")


@router.get("/models")
async def list_artifacts(use: Use) -> ArtifactPage:
    """Every upload, the newest first."""
    return await use.artifacts.page()
