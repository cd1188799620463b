"""`PUT`, `HEAD` and `GET /v1/blob/{sha256}`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from fleet_protocol.workers import UploadAnswer
from fleet_server import uploads
from fleet_server.access.guard import GuardedRoute
from fleet_server.services import Use
from fleet_server.uploads import Digest

router = APIRouter(prefix="/v1/blob", tags=["blobs"], route_class=GuardedRoute)


@router.put("/{sha256}", status_code=201)
async def upload_blob(sha256: Digest, request: Request, response: Response, use: Use) -> UploadAnswer:
    """Stream a data set, a source or a checkpoint, whole or from an offset (`Content-Range`)."""
    part = uploads.part_of(request)
    return uploads.taken(await use.blobs.upload(sha256, part, request.stream()), response)


@router.head("/{sha256}")
async def blob_upload_state(sha256: Digest, use: Use) -> Response:
    """How far an upload got: `Upload-Offset`, and `Upload-Complete: ?1` when it is whole."""
    return uploads.state(*await use.blobs.state(sha256))


@router.get("/{sha256}", response_class=FileResponse)
async def get_blob(sha256: Digest, use: Use) -> FileResponse:
    """The blob's bytes; ranges are answered."""
    return FileResponse(await use.blobs.path(sha256), media_type="application/octet-stream")
