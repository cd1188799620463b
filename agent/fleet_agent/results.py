"""What a completed attempt hands in: its metrics, and what made it."""

from __future__ import annotations

import json

import structlog
from pydantic import ValidationError

from fleet_agent.state import AttemptFolder
from fleet_protocol.capability import Capability
from fleet_protocol.jobs import Metric
from fleet_protocol.version import program_version

log = structlog.get_logger()
METRICS_BYTES = 1 << 20


def read_metrics(folder: AttemptFolder) -> dict[str, Metric]:
    """output/metrics.json's `metrics`, in its order. What is not a metric is left out: it costs no training."""
    metrics: dict[str, Metric] = {}
    try:
        with folder["output/metrics.json"].open("rb") as file:
            table = json.loads(file.read(METRICS_BYTES))["metrics"]
        for name, row in table.items():
            metrics[name] = Metric.model_validate(
                {key: value for key, value in row.items() if value is not None}
            )
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        log.warning(
            f"metrics.json cannot be read: {error}", action="metrics_unreadable", attempt=folder.attempt
        )
    return metrics


def provenance(capability: Capability) -> dict[str, str | int | float | bool | None]:
    """Which machine and versions made an artifact; kept beside it, never inside."""
    told = capability.model_dump(
        include={
            *("hostname", "os", "cores", "ram_gib", "cpu"),
            *("python", "torch", "trainer", "git_commit", "git_dirty"),
        }
    )
    gpus = ", ".join(gpu.name for gpu in capability.gpus) or None
    return {"fleet": program_version(), **told, "gpus": gpus}
