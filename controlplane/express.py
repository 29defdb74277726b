"""Answering policies and reports where their bytes come in, before ASGI.

For each request uvicorn makes a task, a cycle, two callables and some messages, which cost more
than the answer itself where that is in memory. What cannot be answered at once goes that way, as
it came; what can be is what the same gates say there.
"""

import time
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from apps.core.parsers import MAX_BODY
from controlplane.asgi import application, http_date

log = structlog.get_logger(__name__)

PATHS = {b"GET": b"/api/v1/policies/", b"HEAD": b"/api/v1/policies/", b"POST": b"/api/v1/reports"}
ELSEWHERE = b"*"  # no path begins so


class ExpressProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with a shorter way for what `Application.at_once` can answer.

    A request on this way is held until it is whole. If it is not to be answered at once, uvicorn
    hears of it then, as if it had come all at once.
    """

    at_once = staticmethod(application.at_once)
    _held: bytearray | None = None  # the body so far of a request on the short way

    def on_headers_complete(self) -> None:
        if self._may_be_answered_at_once():
            self._held = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
            return
        self._held += body
        if len(self._held) > MAX_BODY:
            self._hand_on()

    def on_message_complete(self) -> None:
        if self._held is not None and not self._answered_at_once(bytes(self._held)):
            self._hand_on()
        if self._held is None:
            super().on_message_complete()
        self._held = None

    def _may_be_answered_at_once(self) -> bool:
        """Whether it is a plain request for one of the paths, and its turn is now."""
        parser, url = self.parser, self.url
        return (
            url.startswith(PATHS.get(parser.get_method(), ELSEWHERE))
            and b"%" not in url
            and b"#" not in url
            and url.isascii()
            and getattr(self.cycle, "response_complete", True)  # there may be none yet
            and not (self.flow.write_paused or self.expect_100_continue)
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self._is_too_long()
        )

    def _is_too_long(self) -> bool:
        """Whether it announces a body that is to be refused without waiting for it."""
        lengths = [value for name, value in self.headers if name == b"content-length"]
        return bool(lengths) and int(lengths[0]) > MAX_BODY

    def _answered_at_once(self, body: bytes) -> bool:
        path, _mark, query = self.url.partition(b"?")
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode()
        scope["path"], scope["raw_path"], scope["query_string"] = path.decode(), path, query
        try:
            found = self.at_once(scope, body)
        except Exception:
            log.exception("express.failed", path=scope["path"])
            return False  # and so a 500, in the usual way
        if found is None:
            return False
        request_id, (status, headers, content) = found
        date = b"" if "Date" in headers else b"date: %s\r\n" % http_date(int(time.time()))
        self.transport.write(
            b"%s%s%sx-request-id: %s\r\n\r\n%s"
            % (STATUS_LINE[status], headers.lines, date, request_id, content)
        )
        self.on_response_complete()
        return True

    def _hand_on(self) -> None:
        body, self._held = bytes(self._held or b""), None
        super().on_headers_complete()
        if body:
            super().on_body(body)
