"""Issuing and revoking: how a machine becomes a worker, and who else may speak to this coordinator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from hmac import compare_digest

from fleet_protocol.credentials import Credential, MalformedToken, make, parse
from fleet_protocol.enrolment import (
    CredentialRequest,
    EnrolAnswer,
    EnrolRequest,
    JoinRequest,
    JoinView,
    MadeJoin,
    MadeToken,
    TokenRequest,
    TokenView,
)
from fleet_protocol.wire import rfc3339
from fleet_protocol.workers import WorkerView
from fleet_server.access import queries
from fleet_server.access.bearers import Bearers, Caller
from fleet_server.access.queries import Held, Join
from fleet_server.clock import Clock
from fleet_server.database import Database, Transaction
from fleet_server.errors import (
    JoinTokenExpired,
    JoinTokenRevoked,
    JoinTokenScope,
    JoinTokenUnknown,
    JoinTokenUsedUp,
    Malformed,
    NameTaken,
    NotPermitted,
    TokenMalformed,
    UnknownToken,
)
from fleet_server.tables import credentials, join_tokens
from fleet_server.workers.service import Workers


@dataclass(slots=True)
class Access:
    """Every change is one transaction with its event; the bearers in memory follow it."""

    database: Database
    clock: Clock
    bearers: Bearers
    workers: Workers
    pin: str | None = None
    """Of this coordinator's certificate, for the tokens it makes."""

    async def make_join(self, request: JoinRequest, actor: str, url: str) -> MadeJoin:
        made = make("join", self.pin)

        def operate(tx: Transaction) -> Join:
            until = tx.now + timedelta(seconds=request.seconds)
            row = Join(
                made.id, made.secret_sha256, request.names, request.uses, [], tx.now, actor, until, None
            )
            queries.add(tx, row)
            whom = f" for {row.names}" if row.names else ""
            queries.note(
                tx, "join_made", actor, f"{row.id}{whom}, uses {row.uses_left}, until {rfc3339(until)}"
            )
            return row

        row = await self.database.writer.run(operate)
        return MadeJoin(**_join_view(row).model_dump(), token=str(made), url=url)

    async def joins(self) -> tuple[JoinView, ...]:
        async with self.database.read() as connection:
            return tuple(map(_join_view, await connection.run_sync(queries.all_joins)))

    async def revoke_join(self, join_id: str, actor: str) -> JoinView:
        def operate(tx: Transaction) -> Join:
            row = queries.join_of(tx.connection, join_id)
            if row is None:
                raise UnknownToken(f"There is no join token {join_id!r}.", next_command="fleet join list")
            if row.revoked_at is None:
                queries.revoke(tx, join_tokens, join_id)
                queries.note(tx, "join_revoked", actor, join_id)
                row = replace(row, revoked_at=tx.now)
            return row

        return _join_view(await self.database.writer.run(operate))

    async def enrol(self, token: str, request: EnrolRequest) -> EnrolAnswer:
        """A worker's own credential for a join token; atomic, and the same again for the same request."""
        try:
            shown = parse(token)
        except MalformedToken:
            raise TokenMalformed from None
        if shown.kind != "join":
            raise JoinTokenUnknown("This is no join token.")
        async with self.workers.roster.changing:
            changed = await self.database.writer.run(lambda tx: self._enrol(tx, shown, request))
        self.bearers.put(changed)
        await self.bearers.cut(row.id for row in changed if row.revoked_at is not None)
        return EnrolAnswer(
            worker=request.worker,
            name=request.name,
            credential=request.credential,
            server_time=self.clock.now(),
        )

    def _enrol(self, tx: Transaction, shown: Credential, request: EnrolRequest) -> list[Held]:
        join = queries.join_of(tx.connection, shown.id)
        if join is None or not compare_digest(join.secret_sha256, shown.secret_sha256):
            raise JoinTokenUnknown
        known = queries.held_of(tx.connection, request.credential)
        if known is not None:
            same = (known.worker_id, known.secret_sha256) == (request.worker, request.secret_sha256)
            if same and known.created_by == f"join:{join.id}" and known.revoked_at is None:
                return []  # the answer was lost
            raise Malformed("That credential's id is taken; make another secret.")
        _require_usable(join, request.name, tx)
        self._refuse_twin(request)
        row = Held(
            request.credential, "agent", request.secret_sha256, request.name, request.worker,
            None, tx.now, f"join:{join.id}", None, None,
        )  # fmt: skip
        earlier = [
            replace(one, revoked_at=tx.now) for one in queries.of_worker(tx.connection, request.worker)
        ]
        for one in earlier:
            queries.revoke(tx, credentials, one.id)
        queries.add(tx, row)
        queries.use(tx, join, request.name)
        queries.note(tx, "worker_enrolled", f"join:{join.id}", f"{request.name} ({request.worker})")
        return [row, *earlier]

    def _refuse_twin(self, request: EnrolRequest) -> None:
        twin = self.workers.roster.by_name(request.name)
        if twin is not None and twin.live and twin.worker_id != request.worker:
            raise NameTaken(f"A live worker is called {request.name!r}; give this one another --name.")

    async def replace_credential(self, request: CredentialRequest, caller: Caller) -> EnrolAnswer:
        """A new secret for a worker's own; the old one dies when the new one is first used."""
        if caller.credential is None:
            raise NotPermitted(
                "This coordinator's local token is no credential of one worker's own; enrol first."
            )

        def operate(tx: Transaction) -> Held:
            before = self.bearers.held[caller.credential or ""]
            known = queries.held_of(tx.connection, request.credential)
            if known is not None:
                if (known.worker_id, known.secret_sha256) != (request.worker, request.secret_sha256):
                    raise Malformed("That credential's id is taken; make another secret.")
                return known
            row = replace(
                before, id=request.credential, secret_sha256=request.secret_sha256, replaces=before.id,
                created_at=tx.now, created_by=caller.actor,
            )  # fmt: skip
            queries.add(tx, row)
            return row

        row = await self.database.writer.run(operate)
        self.bearers.put([row])
        return EnrolAnswer(
            worker=request.worker, name=row.name, credential=row.id, server_time=self.clock.now()
        )

    async def settle(self, caller: Caller) -> None:
        """The first use of a new secret ends the one it replaces."""
        held = self.bearers.held.get(caller.credential or "")
        before = self.bearers.held.get(held.replaces or "") if held else None
        if before is not None and before.revoked_at is None:
            await self._revoke([before], lambda tx: None)

    async def make_token(self, request: TokenRequest, actor: str) -> MadeToken:
        made = make(request.role, self.pin)

        def operate(tx: Transaction) -> Held:
            until = tx.now + timedelta(days=request.days)
            row = Held(
                made.id, made.kind, made.secret_sha256, request.name, None, None, tx.now, actor, until, None
            )
            queries.add(tx, row)
            queries.note(tx, "token_made", actor, f"{row.id}: {row.kind} {row.name}, until {rfc3339(until)}")
            return row

        row = await self.database.writer.run(operate)
        self.bearers.put([row])
        return MadeToken(**_token_view(row).model_dump(), token=str(made))

    def tokens(self) -> tuple[TokenView, ...]:
        rows = sorted(self.bearers.held.values(), key=lambda row: row.created_at, reverse=True)
        return tuple(map(_token_view, rows))

    async def revoke_token(self, token_id: str, actor: str) -> TokenView:
        held = self.bearers.held.get(token_id)
        if held is None:
            raise UnknownToken(f"There is no token {token_id!r}.")
        if held.revoked_at is None:
            await self._revoke(
                [held],
                lambda tx: queries.note(tx, "token_revoked", actor, f"{held.id}: {held.kind} {held.name}"),
            )
        return _token_view(self.bearers.held[token_id])

    async def revoke_worker(self, ref: str, actor: str, reason: str) -> WorkerView:
        """At once: its credentials are void, its connections cut, what it trains goes back to the queue."""
        worker = self.workers.named(ref)
        own = [row for row in self.bearers.held.values() if row.worker_id == worker.worker_id]
        await self._revoke([row for row in own if row.revoked_at is None], lambda tx: None)
        return await self.workers.expel(worker, actor, reason)

    async def _revoke(self, rows: list[Held], note: Callable[[Transaction], None]) -> None:
        def operate(tx: Transaction) -> list[Held]:
            for row in rows:
                queries.revoke(tx, credentials, row.id)
            note(tx)
            return [replace(row, revoked_at=tx.now) for row in rows]

        self.bearers.put(await self.database.writer.run(operate))
        await self.bearers.cut(row.id for row in rows)


def _require_usable(join: Join, name: str, tx: Transaction) -> None:
    if join.revoked_at is not None:
        raise JoinTokenRevoked(f"The join token was revoked at {rfc3339(join.revoked_at)}.")
    if join.expires_at <= tx.now:
        raise JoinTokenExpired(f"The join token has expired at {rfc3339(join.expires_at)}.")
    if join.names is not None and not fnmatchcase(name, join.names):
        raise JoinTokenScope(f"The join token is for workers called {join.names}, not {name!r}; see --name.")
    if join.uses_left < 1:
        raise JoinTokenUsedUp(f"The join token was used up, by {', '.join(join.used_by)}.")


def _join_view(row: Join) -> JoinView:
    return JoinView(
        id=row.id,
        names=row.names,
        uses_left=row.uses_left,
        used_by=tuple(row.used_by),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _token_view(row: Held) -> TokenView:
    return TokenView(
        id=row.id,
        role=row.kind,
        name=row.name,
        worker=row.worker_id,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
