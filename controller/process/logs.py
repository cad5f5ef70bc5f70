"""JSON logs on standard output, one line a decision that changed something (contract §9)."""

from __future__ import annotations

import logging
import sys

import orjson
import structlog


def configure(level: str) -> None:
    """Set structlog up as tech.md §5 measured it best: bytes, orjson, cached loggers, filtered before formatting."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("msg"),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )


def northbound(remote: str, trouble: str) -> None:
    """Say what is wrong with a remote of Northbound, or that it is followed now."""
    log = structlog.get_logger()
    if trouble:
        log.warning("northbound", remote=remote, error=trouble)
    else:
        log.info("northbound connected", remote=remote)
