"""What must never stand in a log line."""

import logging
import sys

import pytest
import structlog

from controlplane import logs

SECRET = "S" * 43
TOKEN = f"hf_abcdefghijkl_{SECRET}"


def line(log_format: str, record: logging.LogRecord) -> str:
    """The line that a handler would write."""
    settings = logs.config(log_format)["formatters"]["structured"]
    values = {name: value for name, value in settings.items() if name != "()"}
    return structlog.stdlib.ProcessorFormatter(**values).format(record)


def record(message: str, *, failed: bool = False) -> logging.LogRecord:
    found = sys.exc_info() if failed else None
    return logging.LogRecord("a.logger", logging.INFO, __file__, 1, message, None, found)


@pytest.mark.parametrize("log_format", ["json", "console"])
class TestTokens:
    def test_the_secret_of_a_token_in_an_address_is_masked(self, log_format: str) -> None:
        text = line(log_format, record(f"GET /wall/?token={TOKEN}"))

        assert SECRET not in text
        assert "hf_abcdefghijkl_" in text

    def test_the_values_of_an_event_are_masked(self, log_format: str) -> None:
        event = logging.LogRecord("a.logger", logging.INFO, __file__, 1, "", None, None)
        event.msg = {"event": "request_started", "request": f"GET /wall/?token={TOKEN}", "code": 1}
        event.__dict__ |= {"_logger": None, "_name": "info"}

        text = line(log_format, event)

        assert "request_started" in text
        assert SECRET not in text

    def test_values_within_values_are_masked(self, log_format: str) -> None:
        event = logging.LogRecord("a.logger", logging.INFO, __file__, 1, "", None, None)
        event.msg = {"event": "it_failed", "told": {"headers": [("authorization", TOKEN)]}}
        event.__dict__ |= {"_logger": None, "_name": "info"}

        text = line(log_format, event)

        assert "hf_abcdefghijkl_" in text
        assert SECRET not in text

    def test_a_traceback_is_masked(self, log_format: str) -> None:
        try:
            raise ValueError(f"no such token: {TOKEN}")
        except ValueError:
            text = line(log_format, record("it failed", failed=True))

        assert "no such token: hf_abcdefghijkl_" in text
        assert SECRET not in text
