"""A server's doors as a test uses them: an operator's switch, and a service's stream."""

import json
import ssl
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from types import TracebackType
from typing import Any, Self

import httpx

SECONDS = 10.0  # a test that waits longer has failed
ENGAGE: dict[str, Any] = {"reason": "a test", "lease_seconds": None}


class Switch:
    """One custom flag, switched through the API of any web process."""

    def __init__(
        self, url: str, token: str, *, key: str = "a-flag", service: str = "", kind: str = "custom"
    ) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS
        )
        body = {"key": key, "kind": kind} | ({"service": service} if service else {})
        made = self._http.post("flags", json=body)
        assert made.status_code == 201, made.text
        self.flag_id, self._version = made.json()["id"], made.headers["ETag"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def engage(self) -> None:
        self._post("engage", ENGAGE)

    def end(self) -> None:
        self._post("end", {"reason": "a test"})

    def attempt_engage(self) -> httpx.Response:
        """Ask for it, whatever the answer."""
        return self._ask("engage", ENGAGE)

    def attempt_end(self) -> httpx.Response:
        """Ask for the end, whatever the answer."""
        return self._ask("end", {"reason": "a test"})

    def look(self) -> None:
        """Learn the newest version, after somebody else's change."""
        self._version = self._http.get(f"flags/{self.flag_id}").headers["ETag"]

    def _post(self, action: str, body: dict[str, Any]) -> None:
        answer = self._ask(action, body)
        assert answer.status_code == 200, answer.text
        self._version = answer.headers["ETag"]

    def _ask(self, action: str, body: dict[str, Any]) -> httpx.Response:
        return self._http.post(
            f"flags/{self.flag_id}/{action}", json=body, headers={"If-Match": self._version}
        )


class Listener:
    """One open stream; `event` waits for the next."""

    def __init__(
        self,
        url: str,
        token: str,
        service: str = "checkout",
        *,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._http = httpx.Client(timeout=SECONDS, verify=verify)
        self._asked = self._http.stream(
            "GET",
            f"{url}/api/v1/policies/{service}/stream",
            headers={"Authorization": f"Bearer {token}", **(headers or {})},
        )

    def __enter__(self) -> Self:
        self.response = self._asked.__enter__()
        self._events = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def event(self, name: str) -> Any:
        """The data of the next event, which must be of that name; raises if it does not come."""
        came, data = next(self._events)
        assert came == name, f"{came} came, not {name}: {data}"
        return data

    @property
    def is_over(self) -> bool:
        """Whether the server has ended the stream; waits for the next event if it has not."""
        return next(self._events, None) is None

    def _read(self) -> Iterator[tuple[str, Any]]:
        name = ""
        for line in self.response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


class Console:
    """The admin as a browser without scripts uses it, logged in as the operator."""

    def __init__(self, url: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=SECONDS)
        login = self.form("/admin/login/") | {"username": "operator", "password": password}
        assert self.post("/admin/login/", login).status_code == 302

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def form(self, path: str) -> dict[str, str]:
        """The values a page's form would send if nobody changed anything."""
        page = self._http.get(path)
        assert page.status_code == 200, page.text[:500]
        fields = _Fields()
        fields.feed(page.text)
        return fields.values

    def post(self, path: str, form: Mapping[str, str]) -> httpx.Response:
        return self._http.post(path, data=dict(form), headers={"Referer": str(self._http.base_url)})


class _Fields(HTMLParser):
    """Collects the values of inputs, selections and text areas; of all forms on the page."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._name = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name") or "", given.get("value") or ""
        is_box = given.get("type") in {"checkbox", "radio"}
        if tag == "input" and name and (not is_box or "checked" in given):
            self.values[name] = value
        elif tag in {"select", "textarea"}:
            self._name = name
            self.values[name] = ""
        elif tag == "option" and "selected" in given:
            self.values[self._name] = value

    def handle_data(self, data: str) -> None:
        if self._name and self.lasttag == "textarea":
            self.values[self._name] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in {"select", "textarea"}:
            self._name = ""
