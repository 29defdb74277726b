"""Dead letters in: each once, whatever its neighbours are, however often it comes."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from msgspec.structs import replace
from rest_framework.test import APIClient

from apps.audit.models import Entry
from apps.core import bus
from apps.deadletters import services
from apps.deadletters.letters import Item, read
from apps.deadletters.models import DeadLetter, Group
from apps.fleet.models import Service
from tests import make

CAPTURE = "/api/v1/dead-letters/capture"
DEEP = b"[" * 100_000 + b"]" * 100_000


def send(client: APIClient, *items: Any) -> list[dict[str, Any]]:
    answer = client.post(CAPTURE, {"items": items})
    assert answer.status_code == 201, answer.content
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def send_raw(client: APIClient, body: bytes) -> Any:
    return client.post(CAPTURE, body, content_type="application/json")


def failed_at(second: int, **members: Any) -> dict[str, Any]:
    """The letter `order-1`, failed at that second of a minute, once."""
    at = f"2026-11-22T14:00:{second:02}Z"
    return make.letter_item("order-1", attempts=1, first_failed_at=at, last_failed_at=at, **members)


def counts(service: Service) -> list[tuple[int, int]]:
    """Letters and unresolved ones of each group, as kept."""
    groups = Group.objects.filter(service=service).order_by("pk")
    return list(groups.values_list("letters", "unresolved"))


@pytest.fixture
def service(db: None) -> Service:
    return make.service()


@pytest.fixture
def client(service: Service) -> APIClient:
    return make.client(of=service, scopes=["deadletters:write"])


class TestOnce:
    def test_a_letter_is_kept_with_everything_it_says(
        self, service: Service, client: APIClient
    ) -> None:
        (found,) = send(client, make.letter_item("order-1", revision=7, correlation_id="c-1"))

        letter = DeadLetter.objects.get(pk=found["id"])
        assert found == {"index": 0, "status": "created", "id": letter.pk}
        assert (letter.service, letter.status, letter.attempts) == (service, "new", 3)
        assert (letter.error_class, letter.dependency) == ("ConnectTimeout", "payments-api")
        assert (letter.revision, letter.correlation_id) == (7, "c-1")
        assert bytes(letter.body) == b'{"order": 1}'
        assert letter.body_size == 12
        assert counts(service) == [(1, 1)]

    def test_a_replay_changes_nothing(self, client: APIClient) -> None:
        first = make.letter_item("order-1"), make.letter_item("order-2")
        send(client, *first)
        before = list(DeadLetter.objects.order_by("pk").values()), list(Group.objects.values())

        found = send(client, *first)

        assert [each["status"] for each in found] == ["unchanged", "unchanged"]
        assert (
            list(DeadLetter.objects.order_by("pk").values()),
            list(Group.objects.values()),
        ) == before

    def test_the_newest_attempt_wins_and_attempts_add_up(self, client: APIClient) -> None:
        newest = failed_at(30, error={"class": "Newest"})

        statuses = [
            send(client, item)[0]["status"]
            for item in (failed_at(10), newest, failed_at(20), failed_at(10), newest)
        ]

        letter = DeadLetter.objects.get()
        assert statuses == ["created", "updated", "updated", "unchanged", "unchanged"]
        assert (letter.error_class, letter.attempts) == ("Newest", 3)
        assert letter.first_failed_at.second == 10
        assert letter.last_failed_at.second == 30

    def test_failures_in_one_batch_add_up_too(self, client: APIClient) -> None:
        found = send(client, failed_at(10), failed_at(20), failed_at(10))

        assert [each["status"] for each in found] == ["created", "updated", "unchanged"]
        assert DeadLetter.objects.get().attempts == 2

    def test_another_error_moves_it_to_another_group(
        self, service: Service, client: APIClient
    ) -> None:
        send(client, failed_at(10), make.letter_item("order-2"))

        send(client, failed_at(20, error={"class": "OutOfMemory"}))

        assert counts(service) == [(1, 1), (1, 1)]

    @pytest.mark.parametrize("status", ["resolved", "discarded"])
    def test_what_was_over_and_fails_again_is_new(
        self, service: Service, client: APIClient, status: str
    ) -> None:
        send(client, failed_at(10))
        DeadLetter.objects.update(status=status, discard_reason="x", redrive_count=2)
        Group.objects.update(unresolved=0)

        send(client, failed_at(20))

        letter = DeadLetter.objects.get()
        assert (letter.status, letter.redrive_count, letter.discard_reason) == ("new", 0, "")
        assert counts(service) == [(1, 1)]

    def test_a_replay_does_not_reopen_what_is_over(self, client: APIClient) -> None:
        send(client, failed_at(10))
        DeadLetter.objects.update(status="resolved")

        send(client, failed_at(10))

        assert DeadLetter.objects.get().status == "resolved"

    def test_captures_are_not_audited_but_announced(
        self, service: Service, client: APIClient, django_capture_on_commit_callbacks: Any
    ) -> None:
        heard: list[Any] = []
        entries = Entry.objects.count()
        cancel = bus.subscribe("deadletters", heard.append)

        with django_capture_on_commit_callbacks(execute=True):
            send(client, make.letter_item())
        cancel()

        assert heard == [{"environment_id": service.environment_id}]
        assert Entry.objects.count() == entries


class TestBadItems:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"dedup_key": ""}, "dedup_key"),
            ({"dedup_key": "x" * 201}, "dedup_key"),
            ({"handler": None}, "handler"),
            ({"reason": "bad luck"}, "reason"),
            ({"error": {"message": "no class"}}, "error"),
            ({"attempts": 0}, "attempts"),
            ({"attempts": 2**31}, "attempts"),
            ({"attempts": 1.5}, "attempts"),
            ({"first_failed_at": "2026-11-22T15:00:00Z"}, "first_failed_at"),
            ({"last_failed_at": "2026-11-22T14:00:00"}, "last_failed_at"),
            ({"last_failed_at": "9999-12-31T23:59:59Z"}, "last_failed_at"),
            ({"headers": {"a": 1}}, "headers[...]"),
            ({"headers": {"a\0": "x"}}, "headers.a\ufffd"),
            ({"body": {"encoding": "utf-8", "data": "a\0b"}}, "body.data"),
            ({"body": {"encoding": "base64", "data": "no base64"}}, "body.data"),
            ({"body": {"encoding": "latin-1"}}, "body.encoding"),
            ({"idempotency_key": "a\0"}, "idempotency_key"),
            ({"revision": -1}, "revision"),
            ({"redacted": "body"}, "redacted"),
        ],
    )
    def test_a_bad_member_is_named_and_costs_the_neighbours_nothing(
        self, client: APIClient, change: dict[str, Any], field: str
    ) -> None:
        bad = make.letter_item("bad") | change

        found = send(client, make.letter_item("a"), bad, make.letter_item("b"))

        assert [each["status"] for each in found] == ["created", "invalid", "created"]
        assert field in found[1]["errors"]
        assert sorted(DeadLetter.objects.values_list("dedup_key", flat=True)) == ["a", "b"]

    @pytest.mark.parametrize(
        "bad",
        [
            DEEP,
            b'{"headers": ' + DEEP + b"}",
            b'{"attempts": ' + b"9" * 1_000_000 + b"}",
            b'{"attempts": 1e999999999}',
            b'{"attempts": NaN}',
            b'{"handler": "\\ud800"}',
            b'{"handler": "\xff\xfe"}',
            b'{"handler": "a\x00b"}',
            b'{"handler": "a]},{[\\"b"}',
            b"null",
            b"[]",
            b'"text"',
        ],
        ids=range(12),
    )
    def test_what_is_no_item_at_all_costs_the_neighbours_nothing(
        self, client: APIClient, bad: bytes
    ) -> None:
        good = json.dumps(make.letter_item("a")).encode()

        answer = send_raw(client, b'{"items": [%s, %s, %s]}' % (good, bad, good))

        assert answer.status_code == 201
        statuses = [each["status"] for each in answer.json()["items"]]
        assert statuses == ["created", "invalid", "unchanged"]

    def test_what_the_database_cannot_hold_is_refused_alone(self, service: Service) -> None:
        items = [make.letter_item(key) for key in ("a", "bad", "b")]
        batch = read(json.dumps({"items": items}).encode())
        first, bad, last = batch.items
        assert isinstance(bad, Item)

        found = services.capture(service, [first, replace(bad, attempts=2**80), last])

        assert [each.status for each in found] == ["created", "invalid", "created"]
        assert counts(service) == [(2, 2)]

    def test_members_of_newer_services_are_ignored(self, client: APIClient) -> None:
        found = send(client, make.letter_item("a", mood="bad"))

        assert found[0]["status"] == "created"


class TestEnvelope:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"{}",
            b"[]",
            b"null",
            b'{"items": {}}',
            b'{"items": [}',
            b'{"items": [1, 2',
            b'{"items": [1] "x"}',
            b'{"items": [], "more": 1}',
            b'{"items": [' + b"{}," * 100 + b"{}]}",
            b'{"items": [' + b"," * 1_000_000 + b"]}",
            b'{"items": ["' + b'\\"' * 1_000_000 + b"]}",
            DEEP,
        ],
        ids=range(14),
    )
    def test_a_bad_one_is_400_and_keeps_nothing(self, client: APIClient, body: bytes) -> None:
        answer = send_raw(client, body)

        assert answer.status_code == 400
        assert answer["Content-Type"] == "application/problem+json"
        assert not DeadLetter.objects.exists()

    def test_an_empty_one_is_fine(self, client: APIClient) -> None:
        assert send(client) == []

    def test_over_8_mib_is_413_packed_or_not(self, client: APIClient) -> None:
        large = b'{"items": [' + b" " * 8 * 1024 * 1024 + b"]}"

        plain = send_raw(client, large)
        packed = client.post(
            CAPTURE, gzip.compress(large), content_type="application/json",
            headers={"Content-Encoding": "gzip"},
        )  # fmt: skip

        assert (plain.status_code, packed.status_code) == (413, 413)

    def test_gzip_is_unpacked(self, client: APIClient) -> None:
        body = gzip.compress(json.dumps({"items": [make.letter_item()]}).encode())

        answer = client.post(
            CAPTURE, body, content_type="application/json", headers={"Content-Encoding": "gzip"}
        )

        assert answer.json()["items"][0]["status"] == "created"

    def test_the_scope_is_needed(self, service: Service) -> None:
        answer = make.client(of=service, scopes=["reports:write"]).post(CAPTURE, {"items": []})

        assert answer.status_code == 403

    def test_a_token_of_the_environment_names_the_service(self, service: Service) -> None:
        client = make.client(service.environment)

        unnamed = client.post(CAPTURE, {"items": [make.letter_item()]})
        named = client.post(CAPTURE, {"service": service.slug, "items": [make.letter_item()]})

        assert (unnamed.status_code, named.status_code) == (400, 201)
        assert DeadLetter.objects.get().service == service

    def test_another_services_token_is_404(self, service: Service, client: APIClient) -> None:
        answer = client.post(CAPTURE, {"service": "other", "items": []})

        assert answer.status_code == 404


class TestSecrets:
    def test_credentials_in_headers_are_masked(self, client: APIClient) -> None:
        send(client, make.letter_item(headers={"Authorization": "Bearer x", "task": "t"}))

        letter = DeadLetter.objects.get()
        assert letter.headers == {"Authorization": "<redacted>", "task": "t"}
        assert letter.redacted == ["headers.Authorization"]

    def test_what_a_service_forgot_to_redact_is_masked(self, client: APIClient) -> None:
        data = '{"card": {"number": "4111"}, "lines": [{"cvc": "1"}, {"cvc": "2"}]}'
        body = {"encoding": "utf-8", "content_type": "application/json", "data": data}

        send(client, make.letter_item(body=body, redacted=["body.card.number", "body.lines.*.cvc"]))

        kept = json.loads(bytes(DeadLetter.objects.get().body))
        assert kept["card"] == {"number": "<redacted>"}
        assert kept["lines"] == [{"cvc": "<redacted>"}] * 2


@pytest.mark.django_db(transaction=True)
class TestSixteenAtOnce:
    def test_the_same_letters_count_once(self) -> None:
        service = make.service()
        keys = [f"order-{number}" for number in range(10)]
        items = [
            make.letter_item(key, error={"class": f"Error{number % 3}"})
            for number, key in enumerate(keys)
        ]
        barrier = Barrier(16, timeout=30)

        def run(turn: int) -> list[str]:
            some = items[turn % 10 :] + items[: turn % 10]
            batch = read(json.dumps({"items": some}).encode())
            try:
                barrier.wait()
                return [each.status for each in services.capture(service, batch.items)]
            finally:
                connection.close()

        with ThreadPoolExecutor(16) as threads:
            statuses = [status for found in threads.map(run, range(16)) for status in found]

        assert statuses.count("created") == 10
        assert statuses.count("unchanged") == 150
        assert set(DeadLetter.objects.values_list("attempts", flat=True)) == {3}
        assert sorted(counts(service)) == [(3, 3), (3, 3), (4, 4)]
