"""Reading a manifest, planning it, and applying it in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, RowMapping, insert, select

from fleet_protocol.archive import NotArchived
from fleet_protocol.errors import ProblemItem
from fleet_protocol.ids import Sha256
from fleet_protocol.manifest import HostPolicy, Manifest, ManifestError, load, parse, read_text
from fleet_protocol.plan import CurrentManifest, Plan, ReloadRequest
from fleet_server.blobs.service import Blobs
from fleet_server.database import Database, Transaction
from fleet_server.errors import BlobMissing, DigestMismatch, InvalidManifest, NoManifest
from fleet_server.jobs.queries import all_jobs
from fleet_server.jobs.record import add_jobs, apply_all
from fleet_server.manifest.plan import Decision, decide
from fleet_server.matching.loop import MatchingLoop
from fleet_server.tables import manifests
from fleet_server.workers.roster import Roster


@dataclass(frozen=True, slots=True)
class Source:
    """A manifest that holds, with the text it came from."""

    manifest: Manifest
    toml: str
    file: str
    folder: Path | None = None
    """Where what it names is, if that is on this machine."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.toml.encode()).hexdigest()


@dataclass(slots=True)
class Manifests:
    database: Database
    roster: Roster
    matching: MatchingLoop
    blobs: Blobs
    own_file: Path | None
    fleet: str = "training-fleet"

    async def load_current(self) -> None:
        """Take up the policies that were applied last."""
        async with self.database.read() as connection:
            row = await connection.run_sync(current_row)
        if row is not None:
            self._take_up(row["fleet"], {name: HostPolicy(**policy) for name, policy in row["hosts"].items()})

    async def plan(self, request: ReloadRequest) -> Plan:
        """What `reload` would do; writes nothing."""
        source = await self._source(request)
        async with self.database.read() as connection:
            decision, same = await connection.run_sync(lambda sync: self._decide(sync, source))
        return _plan(source, decision, same)

    async def reload(self, request: ReloadRequest, actor: str) -> Plan:
        """Apply a manifest: all of it or, when it has a problem, nothing. An unchanged one writes nothing.

        BlobMissing where jobs would wait for data that nobody could fetch.
        """
        source = await self._source(request)
        async with self.database.read() as connection:
            decision, same = await connection.run_sync(lambda sync: self._decide(sync, source))
            missing = await connection.run_sync(lambda sync: self.blobs.missing(sync, decision.blobs))
        if missing:
            await self._take_in(source, missing)
        plan = _plan(source, decision, same)
        if plan.changed:
            plan = await self.database.writer.run(lambda tx: self._apply(tx, source, actor))
            self._take_up(source.manifest.name, dict(source.manifest.hosts))
            self.matching.wake()  # policies may have changed without a job changing
        return plan

    async def _take_in(self, source: Source, missing: Set[Sha256]) -> None:
        """From this machine's disk; BlobMissing where the manifest came from another."""
        if source.folder is None:
            raise _lacking(source, missing)
        for path, sha256 in source.manifest.contents.items():
            if sha256 in missing:
                try:
                    await self.blobs.add(sha256, source.folder / path)
                except (OSError, NotArchived, DigestMismatch) as error:
                    raise BlobMissing(f"{path} could not be stored: {error}; try again.") from None

    async def current(self) -> CurrentManifest:
        async with self.database.read() as connection:
            row = await connection.run_sync(current_row)
        if row is None:
            raise NoManifest("No manifest was applied yet.")
        return CurrentManifest.model_validate(dict(row))

    async def _source(self, request: ReloadRequest) -> Source:
        """Ten thousand jobs take some tenths of a second to read: nobody else shall wait for them."""
        return await asyncio.to_thread(self._read, request)

    def _read(self, request: ReloadRequest) -> Source:
        try:
            if request.toml is not None:
                file = request.file or "manifest"
                return Source(parse(request.toml, file, request.blobs or {}), request.toml, file)
            if self.own_file is None:
                raise NoManifest
            text = read_text(self.own_file)
            return Source(load(self.own_file, text), text, str(self.own_file), self.own_file.parent)
        except ManifestError as error:
            items = tuple(
                ProblemItem(message=p.message, key=p.key, file=p.file, line=p.line)
                for p in error.problems[:1000]
            )
            count, first = len(error.problems), error.problems[0]
            plural = "s" if count > 1 else ""
            detail = f"{count} problem{plural}; nothing was changed. First: {first}"
            raise InvalidManifest(detail, items=items) from None

    def _decide(self, connection: Connection, source: Source) -> tuple[Decision, bool]:
        known = {job.job_id: job for job in all_jobs(connection)}
        offers = self.matching.offers(connection)
        row = current_row(connection)
        same = row is not None and row["digest"] == source.digest
        return decide(source.manifest.jobs, known, offers, self.matching.now()), same

    def _apply(self, tx: Transaction, source: Source, actor: str) -> Plan:
        decision, same = self._decide(tx.connection, source)
        if missing := self.blobs.missing(tx.connection, decision.blobs):
            raise _lacking(source, missing)
        add_jobs(tx, decision.new, actor)
        if decision.changes:
            apply_all(tx, decision.changes, actor)
        if not same:
            tx.connection.execute(
                insert(manifests).values(
                    applied_at=tx.now,
                    actor=actor,
                    file=source.file,
                    fleet=source.manifest.name,
                    digest=source.digest,
                    toml=source.toml,
                    hosts={
                        name: policy.model_dump(mode="json") for name, policy in source.manifest.hosts.items()
                    },
                )
            )
        return _plan(source, decision, same)

    def _take_up(self, fleet: str, policies: dict[str, HostPolicy]) -> None:
        self.fleet = fleet
        self.roster.policies = policies


def current_row(connection: Connection) -> RowMapping | None:
    """The manifest applied last."""
    statement = select(manifests).order_by(manifests.c.manifest.desc()).limit(1)
    return connection.execute(statement).mappings().one_or_none()


def _lacking(source: Source, missing: Set[Sha256]) -> BlobMissing:
    paths = {path: sha256 for path, sha256 in source.manifest.contents.items() if sha256 in missing}
    return BlobMissing(
        f"{len(missing)} of the data sets and sources that jobs need are not here; nothing was changed.",
        items=tuple(ProblemItem(key=sha256, message=path) for path, sha256 in sorted(paths.items())),
        next_command="fleet reload FILE",
    )


def _plan(source: Source, decision: Decision, same: bool) -> Plan:
    changed = not same or bool(decision.new) or bool(decision.changes)
    return Plan(fleet=source.manifest.name, file=source.file, changed=changed, entries=decision.entries)
