"""Guards every request of a requests session.

    session = requests.Session()
    session.mount("https://", GuardedAdapter(hf, "payments-api"))

A request is guarded until its headers are answered; what counts as a failure, what is repeated and
what reaches the caller is as in `holdfast.contrib.httpx`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from holdfast._outcome import Outcome
from holdfast._scope import RETRY_HEADER, is_retry
from holdfast.client import Holdfast
from holdfast.contrib._http import (
    FALLBACK_HEADER,
    FIRST_ERROR,
    Dependency,
    Others,
    checked,
    name_of,
    options_of,
    span_of,
    within_deadline,
)

__all__ = ["GuardedAdapter"]


class GuardedAdapter(HTTPAdapter):
    """Sends requests, each one guarded.

    Args:
        client: Whose policy holds.
        dependency: The name all requests are guarded by; or host → name; or None: each host by its
            own name.
        others: What becomes of hosts such a mapping does not name: "unguarded" or "by_host".
        fallback: The function named "function" in the fallback chain: prepared request → response.
        more: As `requests.adapters.HTTPAdapter` takes them; leave `max_retries` to the policy.
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "_client", "_dependency", "_fallback", "_others"]

    def __init__(
        self,
        client: Holdfast,
        dependency: Dependency = None,
        *,
        others: Others = "unguarded",
        fallback: Callable[[requests.PreparedRequest], requests.Response] | None = None,
        **more: Any,
    ) -> None:
        self._client = client
        self._dependency = dependency
        self._others = checked(others)
        self._fallback = fallback
        super().__init__(**more)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer to a request; raises what requests does, `Rejected` and `CallTimeout`."""
        more = {"stream": stream, "verify": verify, "cert": cert, "proxies": proxies}
        host = urlsplit(request.url or "").hostname or ""
        name = name_of(self._dependency, host, self._others)
        if name is None:
            return super().send(request, timeout=timeout, **more)
        send = super().send
        exchange = _Exchange(request)
        options = options_of(
            request.method or "",
            has_key="Idempotency-Key" in request.headers,
            is_replayable=request.body is None or isinstance(request.body, str | bytes),
            fallback=self._fallback,
        )
        with span_of(self._client, name) as span:

            def attempt(request: requests.PreparedRequest) -> requests.Response:
                exchange.begin()
                request.headers.update(span.headers())
                if is_retry():
                    request.headers[RETRY_HEADER] = "1"
                return exchange.judged(send(request, timeout=_limited(timeout), **more))

            outcome = span.tell(self._client._engine.try_with(name, attempt, options, request))
        return exchange.answer(outcome)


class _Exchange:
    """One request through all its attempts."""

    def __init__(self, request: requests.PreparedRequest) -> None:
        self._request = request
        self._failed: requests.HTTPError | None = None

    def begin(self) -> None:
        """Let go of the answer of the attempt before."""
        if self._failed is not None and self._failed.response is not None:
            self._failed.response.close()
        self._failed = None

    def judged(self, response: requests.Response) -> requests.Response:
        """The answer; raises requests.HTTPError if it is an error, for the policy to judge."""
        if response.status_code < FIRST_ERROR:
            return response
        self._failed = requests.HTTPError(
            f"answered {response.status_code}", request=self._request, response=response
        )
        raise self._failed

    def answer(self, outcome: Outcome[Any]) -> requests.Response:
        """What the caller gets; raises what there is instead of an answer."""
        failed = self._failed
        if failed is not None and outcome.error is failed and failed.response is not None:
            return failed.response
        self.begin()
        value = outcome.unwrap()
        return value if isinstance(value, requests.Response) else self._made_of(value, outcome)

    def _made_of(self, value: Any, outcome: Outcome[Any]) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.headers.update(
            {FALLBACK_HEADER: outcome.source, "Content-Type": "application/json"}
        )
        response.encoding = "utf-8"
        response.raw = io.BytesIO(json.dumps(value).encode())
        response.request = self._request
        response.url = self._request.url or ""
        return response


def _limited(timeout: Any) -> Any:
    """The caller's timeout, held to what is left of the call; urllib3's own kind is left alone."""
    if timeout is None or isinstance(timeout, int | float):
        return within_deadline(timeout)
    if isinstance(timeout, tuple):
        return tuple(within_deadline(each) for each in timeout)
    return timeout
