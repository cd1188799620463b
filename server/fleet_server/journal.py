"""What the coordinator writes about itself: one record per happening, with a stable action and ids as fields."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import structlog


def configure() -> None:
    """To standard error: for people on a terminal, JSON lines elsewhere (`FLEET_LOG_FORMAT=console|json`)."""
    wanted = os.environ.get("FLEET_LOG_FORMAT") or ("console" if sys.stderr.isatty() else "json")
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.EventRenamer("action"),
    ]
    plain = structlog.processors.JSONRenderer()
    renderer = structlog.dev.ConsoleRenderer(event_key="action") if wanted == "console" else plain
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if wanted != "console":
        last.append(structlog.processors.ExceptionRenderer())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*last, renderer])
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.setLevel(logging.WARNING)
    uvicorn.addFilter(_cut_off)


def _cut_off(record: logging.LogRecord) -> bool:
    """What is cut off because the coordinator ends is no defect: a line will do."""
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        record.msg, record.args, record.exc_info = "request_cut_off", (), None
    return True
