"""Read-only mode and request counts for any WSGI application, such as one of Flask.

    app.wsgi_app = ReadOnlyMiddleware(app.wsgi_app, hf, exempt=["/webhooks/payments", "/health/"])

Requests whose method is not safe (GET, HEAD, OPTIONS, TRACE) are answered 503 with
`application/problem+json` and `Retry-After` while a read-only flag is engaged.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from holdfast._scope import RETRY_HEADER, within_retry
from holdfast.client import Holdfast
from holdfast.contrib._read_only import CONTENT_TYPE, Exempt, is_stopped, problem, retry_after
from holdfast.errors import ReadOnly

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ReadOnlyMiddleware"]


class ReadOnlyMiddleware:
    """Stop what may write while a read-only flag is engaged, and count every request.

    Args:
        client: Answers whether a read-only flag is engaged; counts go into its reports.
        exempt: Paths that stay open: with a slash at the end everything below, else exactly it.
            They are compared with `PATH_INFO`.
    """

    def __init__(
        self, app: "WSGIApplication", client: Holdfast, *, exempt: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._client = client
        self._exempt = Exempt(exempt)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Pass the request on, or answer it."""
        answer = _Answer(self._client, environ, start_response)
        if is_stopped(self._client, environ["REQUEST_METHOD"], answer.path, self._exempt):
            answer.body = answer.refuse()
            return answer
        try:
            with within_retry(_RETRY in environ):
                answer.body = self._app(environ, answer.start)
        except ReadOnly as error:  # from the application's own check
            answer.body = answer.refuse(error)
        except BaseException:
            answer.fail()
            raise
        return answer


_RETRY = f"HTTP_{RETRY_HEADER.upper().replace('-', '_')}"


class _Answer:
    """The answer as the server reads it; counted once it is closed, as WSGI says it must be."""

    def __init__(
        self, client: Holdfast, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> None:
        self._client = client
        self._start = start_response
        self._started = time.perf_counter()
        self.path: str = environ.get("PATH_INFO", "")
        self.body: Iterable[bytes] = ()
        self.status = 0  # until there is one

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.body
        except ReadOnly as error:
            yield from self.refuse(error)
        except Exception:
            self.status = 500  # the server closes it
            raise

    def start(self, status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
        """What the application calls `start_response`."""
        self.status = int(status.partition(" ")[0])
        return self._start(status, headers, *failure)

    def refuse(self, error: ReadOnly | None = None) -> Iterable[bytes]:
        """Answer in place of the application, unless half of its own answer is out already."""
        if error is not None and self.status:
            self.fail()
            raise error
        body = problem(self.path)
        headers = [
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(body))),
            ("Retry-After", str(retry_after(self._client))),
            ("Cache-Control", "no-store"),
        ]
        self.start("503 Service Unavailable", headers)
        return [body]

    def fail(self) -> None:
        """The application raised: no server closes what it never got."""
        self.status = 500
        self.close()

    def close(self) -> None:
        """Let go of what the application holds, and count the request."""
        close = getattr(self.body, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._client.count_request(self.status or 500, time.perf_counter() - self._started)
