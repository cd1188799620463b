"""`/v1/enrol`, and the tokens of machines and people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from fleet_protocol.credentials import ID_PATTERN
from fleet_protocol.enrolment import (
    CredentialRequest,
    EnrolAnswer,
    EnrolRequest,
    JoinPage,
    JoinRequest,
    JoinView,
    MadeJoin,
    MadeToken,
    RevokeRequest,
    TokenPage,
    TokenRequest,
    TokenView,
)
from fleet_protocol.workers import WorkerView
from fleet_server.access.guard import Actor, CallerOf, GuardedRoute, bearer_of
from fleet_server.services import Use

router = APIRouter(prefix="/v1", tags=["access"], route_class=GuardedRoute)
Id = Annotated[str, Path(pattern=ID_PATTERN)]


@router.post("/enrol")
async def enrol(request: EnrolRequest, connection: Request, use: Use) -> EnrolAnswer:
    """Become a worker: the join token is the bearer, and the body tells the hash of the worker's own new secret."""
    return await use.access.enrol(bearer_of(connection), request)


@router.post("/worker/credential")
async def replace_credential(request: CredentialRequest, use: Use, caller: CallerOf) -> EnrolAnswer:
    """A new secret for the worker's own, which ends when the new one is used for the first time."""
    return await use.access.replace_credential(request, caller)


@router.post("/worker/{ref:path}/revoke")
async def revoke_worker(ref: str, request: RevokeRequest, use: Use, actor: Actor) -> WorkerView:
    """Shut a worker out: now, with all of its connections; its jobs go back to the queue."""
    return await use.access.revoke_worker(ref, actor, request.reason)


@router.post("/join")
async def make_join(request: JoinRequest, connection: Request, use: Use, actor: Actor) -> MadeJoin:
    """A token that a machine can join with; its secret is told this once."""
    url = use.settings.public_url or str(connection.base_url).rstrip("/")
    return await use.access.make_join(request, actor, url)


@router.get("/joins")
async def list_joins(use: Use) -> JoinPage:
    """Every join token, without its secret; the newest first."""
    return JoinPage(joins=await use.access.joins())


@router.post("/join/{join_id}/revoke")
async def revoke_join(join_id: Id, use: Use, actor: Actor) -> JoinView:
    """Nobody joins by it any more; who has joined stays."""
    return await use.access.revoke_join(join_id, actor)


@router.post("/token")
async def make_token(request: TokenRequest, use: Use, actor: Actor) -> MadeToken:
    """A token for a viewer or an operator; its secret is told this once."""
    return await use.access.make_token(request, actor)


@router.get("/tokens")
async def list_tokens(use: Use) -> TokenPage:
    """Every token of people and agents, without its secret; the newest first."""
    return TokenPage(tokens=use.access.tokens())


@router.post("/token/{token_id}/revoke")
async def revoke_token(token_id: Id, use: Use, actor: Actor) -> TokenView:
    """It opens nothing any more, and what it had opened is cut."""
    return await use.access.revoke_token(token_id, actor)
