"""Distinct id types, so that mixing them up fails in the type checker.

A job's id is derived from what is trained, never drawn: any implementation that follows `job_id`
gives the same sixteen hex digits for the same work.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, NewType
from uuid import uuid4

from pydantic import StringConstraints

JobId = NewType("JobId", str)
AttemptId = NewType("AttemptId", str)
WorkerId = NewType("WorkerId", str)
Sha256 = NewType("Sha256", str)

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
JOB_ID_PATTERN = r"^[0-9a-f]{16}$"

WireJobId = Annotated[JobId, StringConstraints(pattern=JOB_ID_PATTERN)]
WireAttemptId = Annotated[AttemptId, StringConstraints(pattern=UUID_PATTERN)]
WireWorkerId = Annotated[WorkerId, StringConstraints(pattern=UUID_PATTERN)]
WireUuid = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
WireSha256 = Annotated[Sha256, StringConstraints(pattern=SHA256_PATTERN)]


def job_id(identity: dict[str, object]) -> JobId:
    """First 16 hex digits of SHA-256 over the identity's JSON with sorted keys.

    `identity` holds model, mode, hyper (as written, defaults not filled in), split_recipe, train_hosts and
    seed, plus `dataset` and `source` digests only where they are set.
    """
    payload = json.dumps(identity, sort_keys=True)
    return JobId(hashlib.sha256(payload.encode()).hexdigest()[:16])


def new_attempt_id() -> AttemptId:
    return AttemptId(str(uuid4()))


def new_worker_id() -> WorkerId:
    return WorkerId(str(uuid4()))
