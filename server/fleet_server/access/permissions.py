"""Who may do what: the one table, by the name of the route's function.

A route that is not listed cannot be added to the application.
"""

from __future__ import annotations

from fleet_protocol.local import Role

VIEWER: frozenset[Role] = frozenset({"viewer", "operator"})
OPERATOR: frozenset[Role] = frozenset({"operator"})
AGENT: frozenset[Role] = frozenset({"agent"})
EVERYONE: frozenset[Role] = frozenset({"viewer", "operator", "agent"})
PUBLIC: frozenset[Role] = frozenset()
"""No token needed; such a route holds no data."""

PERMISSIONS: dict[str, frozenset[Role]] = {
    "health": PUBLIC,
    "ready": VIEWER,
    "scrape": VIEWER,
    "enrol": PUBLIC,  # a join token lets in, and is looked at there
    # workers
    "replace_credential": AGENT,
    "hello": AGENT,
    "claim": AGENT,
    "start": AGENT,
    "heartbeat": AGENT,
    "complete": AGENT,
    "fail": AGENT,
    "release": AGENT,
    "upload_artifact": AGENT,
    "artifact_upload_state": AGENT,
    "save_checkpoint": AGENT,
    "upload_blob": OPERATOR | AGENT,
    "blob_upload_state": OPERATOR | AGENT,
    "get_blob": OPERATOR | AGENT,
    "append_log": AGENT,
    "append_metrics": AGENT,
    "log_state": AGENT,
    "worker_stream": AGENT,
    # readers
    "list_jobs": VIEWER,
    "get_job": VIEWER,
    "explain_job": VIEWER,
    "list_workers": VIEWER,
    "list_artifacts": VIEWER,
    "get_artifact": VIEWER,
    "get_job_log": VIEWER,
    "get_job_metrics": VIEWER,
    "get_attempt_log": VIEWER,
    "follow_job_log": VIEWER,
    "list_events": VIEWER,
    "follow_events": VIEWER,
    "get_manifest": VIEWER,
    "plan_manifest": VIEWER,
    # operators
    "cancel_job": OPERATOR,
    "requeue_job": OPERATOR,
    "accept_result": OPERATOR,
    "reload_manifest": OPERATOR,
    "drain_worker": OPERATOR,
    "resume_worker": OPERATOR,
    "prune": OPERATOR,
    "revoke_worker": OPERATOR,
    "make_join": OPERATOR,
    "list_joins": OPERATOR,
    "revoke_join": OPERATOR,
    "make_token": OPERATOR,
    "list_tokens": OPERATOR,
    "revoke_token": OPERATOR,
}
