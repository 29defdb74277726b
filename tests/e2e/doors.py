"""A server's doors as a test uses them: an operator's switch, and a service's stream."""

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

SECONDS = 10.0  # a test that waits longer has failed


class Switch:
    """One custom flag, switched through the API of any web process."""

    def __init__(self, url: str, token: str, *, key: str = "a-flag", service: str = "") -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS
        )
        body = {"key": key, "kind": "custom"} | ({"service": service} if service else {})
        made = self._http.post("flags", json=body)
        assert made.status_code == 201, made.text
        self._id, self._version = made.json()["id"], made.headers["ETag"]

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
        self._post("engage", {"reason": "a test", "lease_seconds": None})

    def end(self) -> None:
        self._post("end", {"reason": "a test"})

    def attempt_end(self) -> httpx.Response:
        """Ask for the end, whatever the answer."""
        return self._ask("end", {"reason": "a test"})

    def _post(self, action: str, body: dict[str, Any]) -> None:
        answer = self._ask(action, body)
        assert answer.status_code == 200, answer.text
        self._version = answer.headers["ETag"]

    def _ask(self, action: str, body: dict[str, Any]) -> httpx.Response:
        return self._http.post(
            f"flags/{self._id}/{action}", json=body, headers={"If-Match": self._version}
        )


class Listener:
    """One open stream; `event` waits for the next."""

    def __init__(self, url: str, token: str, service: str = "checkout", **headers: str) -> None:
        self._http = httpx.Client(timeout=SECONDS)
        self._asked = self._http.stream(
            "GET",
            f"{url}/api/v1/policies/{service}/stream",
            headers={"Authorization": f"Bearer {token}", **headers},
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
