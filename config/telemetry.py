"""Structured logs (structlog over the standard library's logging), without secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRET = re.compile(
    r"fb_(?:gw|op|key)_[0-9A-Za-z]+|(?:sk|rk)_(?:test|live)_[0-9A-Za-z]+|whsec_[0-9A-Za-z+/=]+"
    r"|(?<=://)[^:/@\s]+:[^@/\s]+(?=@)"
)


def hide_secrets(text: str) -> str:
    """Replace anything that looks like a credential by its first letters."""
    return _SECRET.sub(lambda found: found.group(0)[:6] + "…(hidden)", text)


def _scrub(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = hide_secrets(value)
    return event


def configure_logging(_settings: Mapping[str, object] | None = None) -> None:
    """Send every log line through structlog: JSON for machines or a console for people."""
    from config import environment as env

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Any = (
        structlog.dev.ConsoleRenderer(
            colors=False,
            # Prettier ones show local variables, secrets among them.
            exception_formatter=structlog.dev.plain_traceback,
        )
        if env.LOG_FORMAT.read() == "console"
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _scrub, last],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(env.LOG_LEVEL.read())
    for noisy in ("axes", "django.utils.autoreload", "stripe", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
