"""The coordinator's refusals. Each class carries its code and status; its docstring is the default message.

Refusal
├── Malformed, NotAuthenticated, NotPermitted, WrongHost, WrongOrigin
├── TokenMalformed, TokenInUrl, TokenExpired, TokenRevoked, AgentRevoked, UnknownToken
├── JoinTokenUnknown, JoinTokenExpired, JoinTokenUsedUp, JoinTokenRevoked, JoinTokenScope
├── UnknownJob, AmbiguousJob, UnknownAttempt, UnknownWorker, UnknownArtifact, UnknownBlob
├── WrongState, StaleAttempt, ArtifactMissing, BlobMissing
├── NameTaken, DuplicateIdentity, ProtocolTooOld
├── InvalidManifest, NoManifest
├── DigestMismatch, UploadOffset, TooLarge, StorageFull
├── CursorUnknown, MetricsGap, TooManySeries
└── LogGap, LogDiverged, LogClosed, LogDamaged
"""

from __future__ import annotations

from typing import ClassVar

from fleet_protocol.errors import Code, Problem, ProblemItem


class Refusal(Exception):
    """The request cannot be carried out."""

    code: ClassVar[Code] = Code.INVALID_REQUEST
    status: ClassVar[int] = 409
    next: str | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        next_command: str | None = None,
        items: tuple[ProblemItem, ...] = (),
        current: dict[str, str | int | None] | None = None,
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)
        self.next = next_command or self.next
        self.items = items
        self.current = current

    def problem(self) -> Problem:
        return Problem(
            title=self.code.replace("_", " "),
            status=self.status,
            detail=self.detail,
            code=self.code,
            next=self.next,
            errors=self.items,
            current=self.current,
        )


class Malformed(Refusal):
    """The request does not have the form it should have."""

    status = 422


class NotAuthenticated(Refusal):
    """No token, or one that this coordinator did not issue; send `Authorization: Bearer TOKEN`."""

    code, status = Code.NOT_AUTHENTICATED, 401


class NotPermitted(Refusal):
    """The token's role may not do this."""

    code, status = Code.NOT_PERMITTED, 403


class TokenMalformed(Refusal):
    """The token is not whole: it was cut short or mistyped. Copy all of it."""

    code, status = Code.TOKEN_MALFORMED, 401


class TokenInUrl(Refusal):
    """A token in an address ends up in logs. Send `Authorization: Bearer TOKEN`, and revoke this one."""

    code, status = Code.TOKEN_IN_URL, 401


class TokenExpired(Refusal):
    """The token has expired; an operator can make another."""

    code, status, next = Code.TOKEN_EXPIRED, 401, "fleet token new"


class TokenRevoked(Refusal):
    """The token was revoked."""

    code, status = Code.TOKEN_REVOKED, 403


class AgentRevoked(Refusal):
    """This worker was revoked; an operator can let it join again."""

    code, status, next = Code.AGENT_REVOKED, 403, "fleet join new"


class UnknownToken(Refusal):
    """There is no such token."""

    code, status, next = Code.UNKNOWN_TOKEN, 404, "fleet token list"


class JoinTokenUnknown(Refusal):
    """This coordinator did not issue that join token; was it meant for another?"""

    code, status, next = Code.JOIN_TOKEN_UNKNOWN, 401, "fleet join new"


class JoinTokenExpired(Refusal):
    """The join token has expired."""

    code, status, next = Code.JOIN_TOKEN_EXPIRED, 403, "fleet join new"


class JoinTokenUsedUp(Refusal):
    """The join token was used up."""

    code, status, next = Code.JOIN_TOKEN_USED_UP, 403, "fleet join new"


class JoinTokenRevoked(Refusal):
    """The join token was revoked."""

    code, status, next = Code.JOIN_TOKEN_REVOKED, 403, "fleet join new"


class JoinTokenScope(Refusal):
    """The join token is for workers of other names."""

    code, status, next = Code.JOIN_TOKEN_SCOPE, 403, "fleet join new"


class WrongHost(Refusal):
    """The Host header names another machine; in local mode use 127.0.0.1, localhost or [::1]."""

    code, status = Code.WRONG_HOST, 421


class WrongOrigin(Refusal):
    """Requests from web pages of other origins are refused."""

    code, status = Code.WRONG_ORIGIN, 403


class UnknownJob(Refusal):
    """There is no such job."""

    code, status, next = Code.UNKNOWN_JOB, 404, "fleet list"


class AmbiguousJob(Refusal):
    """More than one job is called so; use an id."""

    code, status, next = Code.INVALID_REQUEST, 409, "fleet list"


class UnknownAttempt(Refusal):
    """There is no such attempt."""

    code, status = Code.UNKNOWN_ATTEMPT, 404


class UnknownWorker(Refusal):
    """This worker has not said hello to this coordinator."""

    code, status = Code.UNKNOWN_WORKER, 409


class NoSuchWorker(Refusal):
    """There is no such worker."""

    code, status, next = Code.UNKNOWN_WORKER, 404, "fleet workers"


class UnknownArtifact(Refusal):
    """There is no such artifact."""

    code, status = Code.UNKNOWN_MODEL, 404


class UnknownBlob(Refusal):
    """There is no such blob."""

    code, status = Code.UNKNOWN_BLOB, 404


class WrongState(Refusal):
    """The job's status does not allow this."""

    code = Code.WRONG_STATE


class StaleAttempt(Refusal):
    """This attempt no longer holds the job."""

    code = Code.STALE_ATTEMPT


class ArtifactMissing(Refusal):
    """The artifact was not uploaded by this attempt, or not verified; upload it, then complete."""

    code = Code.ARTIFACT_MISSING


class BlobMissing(Refusal):
    """The blob is not here, or not whole; upload it first."""

    code = Code.BLOB_MISSING


class NameTaken(Refusal):
    """A live worker has this name; give this one another with --name."""

    code = Code.NAME_TAKEN


class DuplicateIdentity(Refusal):
    """Another process with this worker's identity is live: was the state folder copied?"""

    code = Code.DUPLICATE_IDENTITY


class ProtocolTooOld(Refusal):
    """This agent speaks a protocol that the coordinator does not accept."""

    code, status = Code.PROTOCOL_TOO_OLD, 426


class InvalidManifest(Refusal):
    """The manifest has problems; nothing was changed."""

    code, status = Code.INVALID_MANIFEST, 422


class NoManifest(Refusal):
    """The coordinator has no manifest file of its own; send one."""

    code, next = Code.NO_MANIFEST, "fleet reload FILE"


class DigestMismatch(Refusal):
    """The bytes do not have the SHA-256 that names them; they were dropped. Upload them again."""

    code, status = Code.DIGEST_MISMATCH, 422


class UploadOffset(Refusal):
    """The upload goes on from another offset."""

    code = Code.UPLOAD_OFFSET


class TooLarge(Refusal):
    """The body is larger than this coordinator accepts."""

    code, status = Code.TOO_LARGE, 413


class StorageFull(Refusal):
    """The coordinator's disk is full; nothing was stored. Free some space, it will be tried again."""

    code, status = Code.STORAGE_FULL, 507


class CursorUnknown(Refusal):
    """This history has no such event: an older database was put back; read on from a snapshot, or with after=0."""

    code, status = Code.CURSOR_UNKNOWN, 410


class MetricsGap(Refusal):
    """Points before these are missing; go on from the next one."""

    code = Code.METRICS_GAP


class TooManySeries(Refusal):
    """An attempt may have 1000 names of metrics; a name must not hold a step or the id of a sample."""

    code, status = Code.TOO_MANY_SERIES, 422


class LogGap(Refusal):
    """Bytes before this offset are missing; go on from the durable length."""

    code = Code.LOG_GAP


class LogDiverged(Refusal):
    """These bytes differ from what is already on disk for this log; nothing was overwritten."""

    code = Code.LOG_DIVERGED


class LogClosed(Refusal):
    """The attempt is over and its log was closed; it takes no more bytes."""

    code = Code.LOG_CLOSED


class LogDamaged(Refusal):
    """The file of this log is not what was once written and verified; a backup may have it whole."""

    code, status = Code.LOG_DAMAGED, 500
