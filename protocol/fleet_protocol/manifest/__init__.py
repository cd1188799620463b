"""The manifest: which hosts exist and what each may run, and which jobs are wanted. Schema version 1.

Loading is strict and complete: every problem is reported at once, with file, line and key, what was found and
what is allowed. Nothing is queued from a manifest with a problem.
"""

from __future__ import annotations

from fleet_protocol.manifest.document import (
    DatasetEntry,
    Defaults,
    Document,
    HostPolicy,
    JobEntry,
    ModelEntry,
)
from fleet_protocol.manifest.loading import (
    DEFAULT_TRAIN_HOSTS,
    LOCAL_MANIFEST,
    SYSTEM_MANIFEST,
    Manifest,
    ManifestError,
    contents,
    find_manifest,
    load,
    parse,
    read_text,
)
from fleet_protocol.problems import ManifestProblem

__all__ = [
    "DEFAULT_TRAIN_HOSTS",
    "LOCAL_MANIFEST",
    "SYSTEM_MANIFEST",
    "DatasetEntry",
    "Defaults",
    "Document",
    "HostPolicy",
    "JobEntry",
    "Manifest",
    "ManifestError",
    "ManifestProblem",
    "ModelEntry",
    "contents",
    "find_manifest",
    "load",
    "parse",
    "read_text",
]
