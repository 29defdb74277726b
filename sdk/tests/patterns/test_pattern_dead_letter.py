"""Which failed calls become dead letters, and what of them leaves the process."""

import base64
import json
from datetime import datetime
from typing import Any

import msgspec
import pytest

from holdfast import CircuitOpen, Letter
from holdfast._letter import Capture, Limits, Unserialisable, decode_body, encode
from holdfast.testing import LocalHoldfast


class Refused(Exception): ...


def make_holdfast(when: str = "exhausted", **dead_letter: Any) -> LocalHoldfast:
    hf = LocalHoldfast()
    hf.set_policy(
        "api", retry={"attempts": 3, "jitter": "none"}, dead_letter={"when": when, **dead_letter}
    )
    return hf


def guarded(hf: LocalHoldfast, error: Exception, **options: Any) -> Any:
    given = {"dead_letter": "charge", "errors": {"permanent": Refused}} | options

    @hf.guard("api", **given)
    def charge(order: str, *, amount: int = 1) -> None:
        raise error

    return charge


def guarded_async(hf: LocalHoldfast, error: Exception) -> Any:
    @hf.guard("api", dead_letter="charge")
    async def charge(order: str) -> None:
        raise error

    return charge


def body_of(item: dict[str, Any]) -> Any:
    return decode_body(item["body"])


def encoded(body: Any, *, content_type: str | None = None, **limits: Any) -> dict[str, Any]:
    capture = Capture(handler="h", body=body, content_type=content_type, failed_at=1.0)
    decoded: dict[str, Any] = msgspec.json.decode(encode(capture, Limits(**limits)))
    return decoded


class TestWhen:
    @pytest.mark.parametrize(
        ("when", "captured"), [("never", 0), ("exhausted", 1), ("failed", 1), ("always", 1)]
    )
    def test_retries_used_up(self, when: str, captured: int) -> None:
        hf = make_holdfast(when)

        with pytest.raises(ConnectionError):
            guarded(hf, ConnectionError("down"))("order 1", amount=5)

        assert len(hf.dead_letters) == captured

    @pytest.mark.parametrize(
        ("when", "captured"), [("never", 0), ("exhausted", 0), ("failed", 1), ("always", 1)]
    )
    def test_an_error_that_no_retry_can_mend(self, when: str, captured: int) -> None:
        hf = make_holdfast(when)

        with pytest.raises(Refused):
            guarded(hf, Refused())("order 1")

        assert [item["reason"] for item in hf.dead_letters] == ["rejected"] * captured

    @pytest.mark.parametrize(
        ("when", "captured"), [("never", 0), ("exhausted", 0), ("failed", 1), ("always", 1)]
    )
    def test_an_open_breaker(self, when: str, captured: int) -> None:
        hf = make_holdfast(when)
        hf.override("api", "force_open")

        with pytest.raises(CircuitOpen):
            guarded(hf, ConnectionError())("order 1")

        assert [item["reason"] for item in hf.dead_letters] == ["breaker_open"] * captured

    @pytest.mark.parametrize(("when", "captured"), [("exhausted", 0), ("failed", 0), ("always", 1)])
    def test_a_fallback_that_answers(self, when: str, captured: int) -> None:
        hf = make_holdfast(when)

        charge = guarded(hf, ConnectionError(), fallback=lambda order: "later")

        assert charge("order 1") == "later"
        assert len(hf.dead_letters) == captured

    def test_a_breaker_that_opens_between_two_attempts_has_not_saved_the_call(self) -> None:
        hf = make_holdfast()
        hf.set_policy("api", breaker={"consecutive_failures": 1})

        with pytest.raises((CircuitOpen, ConnectionError)):
            guarded(hf, ConnectionError())("order 1")

        assert len(hf.dead_letters) == 1

    def test_with_retries_switched_off_the_only_attempt_exhausts_them(self) -> None:
        hf = make_holdfast()
        hf.set_policy("api", retry={"enabled": False})

        with pytest.raises(ConnectionError):
            guarded(hf, ConnectionError())("order 1")

        assert hf.dead_letters[0]["attempts"] == 1

    def test_a_guard_without_a_handler_captures_nothing(self) -> None:
        hf = make_holdfast("always")

        with pytest.raises(ConnectionError):
            guarded(hf, ConnectionError(), dead_letter="")("order 1")

        assert hf.dead_letters == []

    async def test_coroutine_functions_alike(self) -> None:
        hf = make_holdfast()

        with pytest.raises(ConnectionError):
            await guarded_async(hf, ConnectionError())("order 1")

        assert body_of(hf.dead_letters[0]) == {"args": ["order 1"], "kwargs": {}}


class TestContent:
    def test_a_letter_says_what_failed_how_often_since_when(self) -> None:
        hf = make_holdfast()
        with pytest.raises(ConnectionError):
            guarded(hf, ConnectionError("down"))("order 1", amount=5)

        (item,) = hf.dead_letters

        assert body_of(item) == {"args": ["order 1"], "kwargs": {"amount": 5}}
        assert (item["handler"], item["dependency"], item["attempts"]) == ("charge", "api", 3)
        assert item["reason"] == "retries_exhausted"
        assert item["error"]["class"] == "ConnectionError"
        assert item["error"]["message"] == "down"
        assert "raise error" in item["error"]["stack"]
        first, last = (
            datetime.fromisoformat(item[name]) for name in ("first_failed_at", "last_failed_at")
        )
        assert (last - first).total_seconds() == pytest.approx(0.3)  # 0.1 s and 0.2 s between
        assert item["dedup_key"]
        assert item["idempotency_key"]

    def test_the_authors_functions_make_body_and_key(self) -> None:
        hf = make_holdfast()
        charge = guarded(
            hf,
            ConnectionError(),
            serialize=lambda order, amount=1: {"order": order},
            idempotency_key=lambda order, amount=1: f"charge {order}",
        )
        for _ in range(2):
            with pytest.raises(ConnectionError):
                charge("7", amount=5)

        first, second = hf.dead_letters
        assert (body_of(first), first["idempotency_key"]) == ({"order": "7"}, "charge 7")
        assert first["dedup_key"] == second["dedup_key"]

    @pytest.mark.parametrize("options", [{}, {"serialize": lambda order: 1 / 0}])
    def test_what_cannot_be_written_down_is_not_captured_and_said_once(
        self, options: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        hf = make_holdfast()
        charge = guarded(hf, ConnectionError("the call's own"), **options)

        for _ in range(2):
            with pytest.raises(ConnectionError, match="the call's own"):
                charge(object())

        assert hf.dead_letters == []
        assert caplog.text.count("are not captured") == 1

    def test_policy_bounds_and_redacts_before_anything_is_kept(self) -> None:
        hf = make_holdfast(redact=["card.number", "headers.X-Session"], max_body_bytes=1_000)

        hf.dead_letter(
            "charge",
            {"card": {"number": "4111", "name": "Ana"}},
            dependency="api",
            headers={"x-session": "s3cret", "Authorization": "Bearer s3cret"},
            redact=["card.name"],
        )

        (item,) = hf.dead_letters
        assert body_of(item) == {"card": {"number": "<redacted>", "name": "<redacted>"}}
        assert set(item["redacted"]) == {
            "body.card.number",
            "body.card.name",
            "headers.x-session",
            "headers.Authorization",
        }
        assert "s3cret" not in json.dumps(item)


class TestEncoding:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("a.b", {"a": {"b": "<redacted>", "c": 1}, "list": [{"t": 1}, {"t": 2}]}),
            ("body.a.b", {"a": {"b": "<redacted>", "c": 1}, "list": [{"t": 1}, {"t": 2}]}),
            ("a", {"a": "<redacted>", "list": [{"t": 1}, {"t": 2}]}),
            ("list.*.t", {"a": {"b": 0, "c": 1}, "list": [{"t": "<redacted>"}] * 2}),
            ("list.1.t", {"a": {"b": 0, "c": 1}, "list": [{"t": 1}, {"t": "<redacted>"}]}),
            ("*.b", {"a": {"b": "<redacted>", "c": 1}, "list": [{"t": 1}, {"t": 2}]}),
        ],
    )
    def test_paths(self, path: str, expected: Any) -> None:
        body = {"a": {"b": 0, "c": 1}, "list": [{"t": 1}, {"t": 2}]}

        item = encoded(body, redact=(path,))

        assert body_of(item) == expected
        assert item["redacted"] == [f"body.{path.removeprefix('body.')}"]

    def test_a_path_that_is_not_there_changes_nothing(self) -> None:
        item = encoded({"a": 1}, redact=("b.c", "a.b"))

        assert (body_of(item), item["redacted"]) == ({"a": 1}, [])

    def test_what_cannot_be_looked_into_does_not_leave_where_something_is_secret(self) -> None:
        item = encoded(b"number=4111", redact=("number",))

        assert body_of(item) == b""
        assert "not JSON" in item["headers"]["holdfast-body-omitted"]

    def test_text_of_json_is_looked_into(self) -> None:
        item = encoded('{"number": 4111}', content_type="application/json", redact=("number",))

        assert body_of(item) == {"number": "<redacted>"}

    @pytest.mark.parametrize("limits", [{"max_body_bytes": 100}, {"max_body_bytes": 10**9}])
    def test_a_body_too_large_is_left_out_whole_and_said_so(self, limits: Any) -> None:
        item = encoded("x" * (101 if limits["max_body_bytes"] == 100 else 7_000_000), **limits)

        assert item["body"]["data"] == ""
        assert item["headers"]["holdfast-body-omitted"]

    @pytest.mark.parametrize(
        "body",
        [{"a": [1, None, "é"]}, "text é", "nul \0", b"\x00\xff", b"", [], "", 7, None],
        ids=repr,
    )
    def test_bodies_come_back_as_they_were(self, body: Any) -> None:
        item = encoded(body)

        assert body_of(item) == body
        assert "\0" not in item["body"]["data"]

    def test_bytes_that_are_not_the_text_they_are_said_to_be_travel_as_they_are(self) -> None:
        item = encoded(b"\xff", content_type="text/plain")

        assert base64.b64decode(item["body"]["data"]) == b"\xff"

    @pytest.mark.parametrize("body", [object(), {"a": {1, object()}}])
    def test_what_json_cannot_say_is_told_apart(self, body: Any) -> None:
        with pytest.raises(Unserialisable):
            encoded(body)

    def test_texts_that_no_database_holds_are_mended_and_bounded(self) -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                return "\0\ud800" + "x" * 20_000

        capture = Capture(
            handler="h",
            body=1,
            error=Odd(),
            failed_at=1.0,
            idempotency_key="k" * 500,
            dedup_key="d" * 500,
            correlation_id="c" * 500,
            headers={f"n{number}": "\0" for number in range(500)},
        )

        item = msgspec.json.decode(encode(capture, Limits()))

        assert "\0" not in json.dumps(item, ensure_ascii=False)
        assert len(item["error"]["message"]) == 10_000
        assert all(
            len(item[name]) <= 200 for name in ("idempotency_key", "dedup_key", "correlation_id")
        )
        assert len(item["headers"]) <= 200

    def test_an_error_whose_text_raises_is_still_told(self) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        capture = Capture(handler="h", body=1, error=Broken(), failed_at=1.0)

        assert "RuntimeError" in msgspec.json.decode(encode(capture, Limits()))["error"]["message"]


class TestQueueLink:
    def holdfast(self, when: str = "always", **link: Any) -> LocalHoldfast:
        hf = make_holdfast(when)
        hf.set_policy("api", fallback={"chain": [{"kind": "queue", "value": "accepted"} | link]})
        return hf

    def test_a_queued_call_is_one_letter_and_its_caller_gets_the_acknowledgement(self) -> None:
        hf = self.holdfast()

        assert guarded(hf, ConnectionError())("order 1") == "accepted"

        assert [item["handler"] for item in hf.dead_letters] == ["charge"]

    def test_the_link_names_the_handler(self) -> None:
        hf = self.holdfast("never", name="later")

        assert guarded(hf, ConnectionError(), dead_letter="")("order 1") == "accepted"

        assert [item["handler"] for item in hf.dead_letters] == ["later"]

    def test_what_cannot_be_kept_is_not_acknowledged(self) -> None:
        hf = self.holdfast()

        with pytest.raises(ConnectionError) as caught:
            guarded(hf, ConnectionError())(object())

        assert "did not take" in caught.value.__notes__[-1]


class TestRedriveInTests:
    def test_a_handler_gets_what_was_captured(self) -> None:
        hf = make_holdfast()
        got: list[Letter] = []

        @hf.redrives("charge")
        def again(letter: Letter) -> None:
            got.append(letter)

        hf.dead_letter("charge", {"n": 1}, idempotency_key="k", headers={"a": "b"})

        assert hf.redrive(hf.dead_letters[0], redrive_count=2).outcome == "resolved"
        assert (got[0].body, got[0].idempotency_key, got[0].redrive_count) == ({"n": 1}, "k", 2)
        assert got[0].headers["a"] == "b"

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [(ValueError("no"), "refailed"), (CircuitOpen("api"), "released")],
    )
    def test_errors_are_outcomes(self, error: Exception, outcome: str) -> None:
        hf = make_holdfast()

        @hf.redrives("charge")
        async def again(letter: Letter) -> None:
            raise error

        hf.dead_letter("charge", 1)

        redriven = hf.redrive(hf.dead_letters[0])

        assert (redriven.outcome, redriven.error) == (outcome, error)

    def test_a_call_that_fails_in_its_redrive_is_no_second_letter_and_not_acknowledged(
        self,
    ) -> None:
        hf = make_holdfast("always")
        hf.set_policy("api", fallback={"chain": [{"kind": "queue", "value": "accepted"}]})
        charge = guarded(hf, ConnectionError())
        charge("order 1")

        @hf.redrives("charge")
        def again(letter: Letter) -> None:
            charge(*letter.body["args"], **letter.body["kwargs"])

        assert hf.redrive(hf.dead_letters[0]).outcome == "refailed"
        assert len(hf.dead_letters) == 1

    @pytest.mark.parametrize(
        ("error", "outcome"), [(ConnectionError(), "refailed"), (CircuitOpen("api"), "released")]
    )
    def test_the_queue_acknowledges_nothing_in_a_redrive_whatever_the_call_is_named(
        self, error: Exception, outcome: str
    ) -> None:
        """Else a letter would count as resolved because another one was made of it."""
        hf = make_holdfast("always")
        hf.set_policy("api", fallback={"chain": [{"kind": "queue", "value": "accepted"}]})
        guarded(hf, ConnectionError())("order 1")

        def charge_once_more() -> None:
            raise error

        @hf.redrives("charge")
        def again(letter: Letter) -> None:
            hf.call("api", charge_once_more)

        assert hf.redrive(hf.dead_letters[0]).outcome == outcome
        assert len(hf.dead_letters) == 1

    def test_without_a_handler_it_is_an_error(self) -> None:
        hf = make_holdfast()
        hf.dead_letter("charge", 1)

        with pytest.raises(KeyError):
            hf.redrive(hf.dead_letters[0])
