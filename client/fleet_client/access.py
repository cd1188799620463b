"""Who may join a fleet, and who may look at it or order in it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from fleet_client.connection import Connection
from fleet_protocol.enrolment import (
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


class Access(Connection):
    """The client's methods about tokens; all of them take an operator's."""

    async def make_join(self, *, seconds: float = 3600, uses: int = 1, names: str | None = None) -> MadeJoin:
        """A token that machines join with; its secret is in this answer and nowhere else."""
        return await self._post(MadeJoin, "/v1/join", JoinRequest(seconds=seconds, uses=uses, names=names))

    async def joins(self) -> JoinPage:
        return await self._get(JoinPage, "/v1/joins")

    async def revoke_join(self, join_id: str) -> JoinView:
        return await self._post(
            JoinView, f"/v1/join/{quote(join_id, safe='')}/revoke", RevokeRequest(), repeatable=True
        )

    async def make_token(
        self, role: Literal["viewer", "operator"], name: str, *, days: float = 90
    ) -> MadeToken:
        """A token for a person; its secret is in this answer and nowhere else."""
        return await self._post(MadeToken, "/v1/token", TokenRequest(role=role, name=name, days=days))

    async def tokens(self) -> TokenPage:
        """Of people and of agents."""
        return await self._get(TokenPage, "/v1/tokens")

    async def revoke_token(self, token_id: str) -> TokenView:
        return await self._post(
            TokenView, f"/v1/token/{quote(token_id, safe='')}/revoke", RevokeRequest(), repeatable=True
        )

    async def revoke_worker(self, worker: str, reason: str = "") -> WorkerView:
        """Shuts it out at once; what it trains goes back to the queue."""
        path = f"/v1/worker/{quote(worker, safe='')}/revoke"
        return await self._post(WorkerView, path, RevokeRequest(reason=reason), repeatable=True)
