"""What the agent says of itself: sentences for a person at a terminal, JSON lines for everybody else."""

from __future__ import annotations

import logging
import os
import sys

import structlog


def speak_to_stderr() -> None:
    """Configure logging once; FLEET_LOG_FORMAT `console` or `json` overrules what the terminal suggests."""
    chosen = os.environ.get("FLEET_LOG_FORMAT") or ("console" if sys.stderr.isatty() else "json")
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if chosen == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        plain = structlog.dev.plain_traceback  # the rich one costs memory
        processors.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
