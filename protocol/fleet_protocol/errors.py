"""The errors of the interface: one stable code each, rendered as RFC 9457 problem+json."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

PROBLEM_JSON = "application/problem+json"


class Code(StrEnum):
    """Stable codes; programs match on these, never on the text."""

    INVALID_REQUEST = "invalid_request"
    INVALID_MANIFEST = "invalid_manifest"
    NO_MANIFEST = "no_manifest"
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_PERMITTED = "not_permitted"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_IN_URL = "token_in_url"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    AGENT_REVOKED = "agent_revoked"
    JOIN_TOKEN_UNKNOWN = "join_token_unknown"
    JOIN_TOKEN_EXPIRED = "join_token_expired"
    JOIN_TOKEN_USED_UP = "join_token_used_up"
    JOIN_TOKEN_REVOKED = "join_token_revoked"
    JOIN_TOKEN_SCOPE = "join_token_scope"
    UNKNOWN_TOKEN = "unknown_token"
    WRONG_HOST = "wrong_host"
    WRONG_ORIGIN = "wrong_origin"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNKNOWN_JOB = "unknown_job"
    UNKNOWN_ATTEMPT = "unknown_attempt"
    UNKNOWN_WORKER = "unknown_worker"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_BLOB = "unknown_blob"
    NAME_TAKEN = "name_taken"
    DUPLICATE_IDENTITY = "duplicate_identity"
    PROTOCOL_TOO_OLD = "protocol_too_old"
    WRONG_STATE = "wrong_state"
    STALE_ATTEMPT = "stale_attempt"
    DIGEST_MISMATCH = "digest_mismatch"
    ARTIFACT_MISSING = "artifact_missing"
    BLOB_MISSING = "blob_missing"
    LOG_GAP = "log_gap"
    LOG_DIVERGED = "log_diverged"
    LOG_CLOSED = "log_closed"
    LOG_DAMAGED = "log_damaged"
    CURSOR_UNKNOWN = "cursor_unknown"
    METRICS_GAP = "metrics_gap"
    TOO_MANY_SERIES = "too_many_series"
    UPLOAD_OFFSET = "upload_offset"
    TOO_LARGE = "too_large"
    STORAGE_FULL = "storage_full"
    BUSY = "busy"
    INTERNAL = "internal"


class ProblemItem(BaseModel):
    """One of several things wrong with a request or a manifest."""

    model_config = ConfigDict(frozen=True)

    message: str
    key: str = ""
    file: str | None = None
    line: int | None = None


class Problem(BaseModel):
    """RFC 9457 problem details, plus `code`, the items, and the next command to run where there is one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    next: str | None = None
    errors: tuple[ProblemItem, ...] = ()
    current: dict[str, str | int | None] | None = None
    """The truth that the request was at odds with: a job's status and attempt, a log's durable length."""
