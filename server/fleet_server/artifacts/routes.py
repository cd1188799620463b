"""`PUT`, `HEAD` and `GET /v1/model/{sha256}`, and the list of artifacts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from fleet_protocol.ids import UUID_PATTERN, AttemptId
from fleet_protocol.jobs import ArtifactPage
from fleet_protocol.workers import UploadAnswer
from fleet_server import uploads
from fleet_server.access.guard import GuardedRoute
from fleet_server.services import Use
from fleet_server.uploads import Digest

router = APIRouter(prefix="/v1", tags=["artifacts"], route_class=GuardedRoute)
Attempt = Annotated[AttemptId, Query(pattern=UUID_PATTERN)]


@router.put("/model/{sha256}", status_code=201)
async def upload_artifact(
    sha256: Digest, attempt: Attempt, request: Request, response: Response, use: Use
) -> UploadAnswer:
    """Stream an artifact, whole or from an offset (`Content-Range: bytes START-END/TOTAL`)."""
    part = uploads.part_of(request)
    return uploads.taken(await use.artifacts.upload(attempt, sha256, part, request.stream()), response)


@router.head("/model/{sha256}")
async def artifact_upload_state(sha256: Digest, attempt: Attempt, use: Use) -> Response:
    """How far an upload got: `Upload-Offset`, and `Upload-Complete: ?1` when it is whole."""
    return uploads.state(*await use.artifacts.state(attempt, sha256))


@router.get("/model/{sha256}", response_class=FileResponse)
async def get_artifact(sha256: Digest, use: Use) -> FileResponse:
    """The bundle's bytes; ranges are answered."""
    path = await use.artifacts.path(sha256)
    return FileResponse(path, media_type="application/zstd", filename=f"{sha256}.tar.zst")


@router.get("/models")
async def list_artifacts(use: Use) -> ArtifactPage:
    """Every upload, the newest first."""
    return await use.artifacts.page()
