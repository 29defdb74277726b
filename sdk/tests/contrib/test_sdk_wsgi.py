"""Read-only mode in any WSGI application."""

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest

from holdfast import ReadOnly
from holdfast.contrib.wsgi import ReadOnlyMiddleware
from sdk.tests.contrib.switch import Switch

UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "PURGE"]


class Shop:
    """An application that answers as its path says, and remembers what reached it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.reached.append(path)
        if path == "/refusing":
            raise ReadOnly("orders", flag="read-only")
        if path == "/broken":
            raise RuntimeError("bug")
        if path.startswith("/lazy"):
            return self.lazy(path, start_response)
        start_response("404 Not Found" if path == "/missing" else "200 OK", [])
        if path == "/late":
            raise ReadOnly("orders", flag="read-only")
        return [b"done"]

    def lazy(self, path: str, start_response: Any) -> Iterator[bytes]:
        """As generators do: nothing happens before the server asks for the first part."""
        if path == "/lazy/refusing":
            raise ReadOnly("orders", flag="read-only")
        start_response("200 OK", [])
        yield b"do"
        if path == "/lazy/broken":
            raise RuntimeError("bug")
        yield b"ne"


@pytest.fixture
def shop() -> Shop:
    return Shop()


def ask(switch: Switch, shop: Shop, method: str, path: str = "/") -> httpx.Response:
    app = ReadOnlyMiddleware(shop, switch.client, exempt=["/hooks/payments", "/open/"])
    transport = httpx.WSGITransport(app)
    with httpx.Client(transport=transport, base_url="http://shop") as client:
        return client.request(method, path)


@pytest.mark.parametrize("method", UNSAFE)
def test_whatever_may_write_is_refused_before_it_reaches_the_application(
    switch: Switch, shop: Shop, method: str
) -> None:
    switch.engage(seconds=89.5)

    response = ask(switch, shop, method)

    assert (response.status_code, response.headers["retry-after"]) == (503, "90")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "read_only"
    assert shop.reached == []


def test_reading_goes_on_and_exempt_paths_stay_open(switch: Switch, shop: Shop) -> None:
    switch.engage()

    assert ask(switch, shop, "GET").text == "done"
    assert ask(switch, shop, "POST", "/open/a").status_code == 200
    assert ask(switch, shop, "POST", "/opened").status_code == 503


def test_without_a_flag_nothing_is_refused(switch: Switch, shop: Shop) -> None:
    switch.engage()
    switch.end()

    assert ask(switch, shop, "POST").status_code == 200


@pytest.mark.parametrize("path", ["/refusing", "/lazy/refusing"])
def test_a_refusal_from_within_becomes_the_same_answer(
    switch: Switch, shop: Shop, path: str
) -> None:
    response = ask(switch, shop, "GET", path)

    assert (response.status_code, response.json()["code"]) == (503, "read_only")
    assert switch.requests["5xx"] == 1


def test_a_second_answer_is_never_begun(switch: Switch, shop: Shop) -> None:
    with pytest.raises(ReadOnly):
        ask(switch, shop, "GET", "/late")


def test_requests_are_counted_by_status_each_once(switch: Switch, shop: Shop) -> None:
    for path in ("/", "/missing", "/lazy"):
        ask(switch, shop, "GET", path)
    for path in ("/broken", "/lazy/broken", "/late"):
        with pytest.raises((RuntimeError, ReadOnly)):
            ask(switch, shop, "GET", path)

    counted = switch.requests

    assert (counted["count"], counted["4xx"], counted["5xx"]) == (6, 1, 3)
