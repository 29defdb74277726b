"""How log lines look: structlog for ours and for everybody's, on stderr."""

import re
import sys
from typing import Any

import structlog

# A token may stand in an address (a kiosk's) or in an error's text; its selector may be seen.
_SECRET = re.compile(r"(hf_[a-z0-9]{12}_)[A-Za-z0-9]{43}")


def mask_tokens(_logger: Any, _method: str, event: Any) -> Any:
    """Replace the secret of every token in a line's texts, however deep they are."""
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET.sub(r"\1…", value) if "hf_" in value else value
    if isinstance(value, dict):
        return {_masked(name): _masked(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(each) for each in value]
    return value


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]

STRUCTLOG: dict[str, Any] = {
    "processors": [
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.processors.UnicodeDecoder(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    "logger_factory": structlog.stdlib.LoggerFactory(),
    "cache_logger_on_first_use": True,
}


def config(log_format: str) -> dict[str, Any]:
    """`logging`'s configuration for `json` (one object a line) or `console` (for people)."""
    render: list[Any]
    if log_format == "json":
        render = [structlog.processors.JSONRenderer()]
    else:
        # Its default traceback prints local variables, and with them tokens.
        plain = structlog.dev.plain_traceback
        render = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        ]
    prepare = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        mask_tokens,
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [*prepare, *render],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            # Each request is logged once, by django-structlog; a report the gate takes is not.
            "uvicorn.access": {"level": "WARNING"},
            "django.server": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
            # Several tasks a second start and end well; one that fails is an error of its own.
            "celery.worker.strategy": {"level": "WARNING"},
            "django_structlog.celery": {"level": "WARNING"},
        },
    }
