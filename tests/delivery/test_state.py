"""What a process holds in memory: how it keeps up, and how little it asks the database."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from apps.accounts import services as accounts
from apps.core import bus
from apps.delivery import selectors
from apps.delivery.api import respond
from apps.delivery.lookups import PER_SECOND, Lookups
from apps.delivery.rules import Document
from apps.delivery.state import State
from apps.fleet.models import Environment
from apps.publication import services as publication
from tests import make

Queries = Callable[..., CaptureQueriesContext]
pytestmark = pytest.mark.django_db


@pytest.fixture
def where() -> Environment:
    return make.environment("production")


def document(known: State, where: Environment, service: str = "checkout") -> Document:
    assert known.snapshot is not None
    return known.snapshot.places[where.pk].document(service)


def refreshed(known: State, *news: str) -> State:
    for topic in news:
        known.hear(topic)
    known.refresh()
    return known


def get(known: State, token: str, **headers: str) -> Any:
    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {token}", **headers})
    return respond(request, "checkout", known)


class TestRefresh:
    def test_a_publish_is_read_at_its_news(self, known: State, where: Environment) -> None:
        before = document(refreshed(known), where)

        make.publish(where, make.flag_piece("read-only"))
        after = document(refreshed(known, "published"), where)

        assert (before.revision, after.revision) == (0, 1)
        assert b"read-only" in after.flags

    def test_two_changes_between_two_looks_are_both_seen(
        self, known: State, where: Environment
    ) -> None:
        refreshed(known)
        make.publish(where, make.flag_piece("read-only"))
        make.publish(where, make.flag_piece("no-mail", kind="feature_off"))
        make.publish(where, make.flag_piece("read-only", reason="still failing over"))

        after = document(refreshed(known, "published"), where)

        assert after.revision == 3
        assert b"still failing over" in after.flags
        assert b"no-mail" in after.flags

    def test_an_unchanged_service_keeps_its_document(
        self, known: State, where: Environment
    ) -> None:
        make.publish(where, make.use("search", "index"), make.use("checkout", "payments-api"))
        kept = document(refreshed(known), where, "search")

        make.publish(where, make.flag_piece("read-only", service="checkout"))
        make.publish(where, make.override_piece("force_open"))
        refreshed(known, "published")

        assert document(known, where, "search") is kept
        assert document(known, where, "checkout").revision == 3

    def test_reading_a_publish_costs_two_queries(
        self, known: State, where: Environment, django_assert_num_queries: Queries
    ) -> None:
        refreshed(known)
        make.publish(where, make.flag_piece("read-only"))
        known.hear("published")

        with django_assert_num_queries(2):
            known.refresh()

    def test_without_news_and_before_its_time_it_asks_nothing(
        self, known: State, django_assert_num_queries: Queries
    ) -> None:
        refreshed(known)

        with django_assert_num_queries(0):
            known.refresh()

    def test_a_new_epoch_reads_everything_anew(self, known: State, where: Environment) -> None:
        make.publish(where, make.flag_piece("read-only"))
        before = document(refreshed(known), where)

        publication.new_epoch(reason="restored", actor=make.actor(where))
        after = document(refreshed(known, "epoch"), where)

        assert after.epoch != before.epoch
        assert after.revision == before.revision
        assert after.event_id != before.event_id

    def test_news_that_could_not_be_read_is_not_forgotten(
        self, known: State, where: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refreshed(known)
        make.publish(where, make.flag_piece("read-only"))
        with monkeypatch.context() as patched:
            patched.setattr("apps.delivery.state.read_places", _unreachable)
            with pytest.raises(OperationalError):
                refreshed(known, "published")
        served_meanwhile = document(known, where).revision

        known.refresh()

        assert (served_meanwhile, document(known, where).revision) == (0, 1)

    def test_a_token_used_is_noted_by_a_loop(self, known: State, where: Environment) -> None:
        token, text = make.token(where)
        get(refreshed(known), text)

        accounts.write_uses()

        token.refresh_from_db()
        assert token.last_used_at is not None


def _unreachable(*arguments: object) -> None:
    raise OperationalError("server closed the connection unexpectedly")


class TestNews:
    def test_only_watched_documents_that_change_are_told(
        self, known: State, where: Environment
    ) -> None:
        make.publish(where, make.use("search", "index"), make.use("checkout", "payments-api"))
        told: list[tuple[int, str]] = []
        refreshed(known).listen(told.append, lambda: None)
        known.watch((where.pk, "search"))
        known.watch((where.pk, "checkout"))

        make.publish(where, make.flag_piece("read-only", service="checkout"))
        refreshed(known, "published")
        make.publish(where, make.override_piece("force_open", dependency="index"))
        refreshed(known, "published")

        assert told == [(where.pk, "checkout"), (where.pk, "search")]

    def test_another_environment_is_not_told(self, known: State, where: Environment) -> None:
        other = make.environment()
        told: list[tuple[int, str]] = []
        refreshed(known).listen(told.append, lambda: None)
        known.watch((where.pk, "checkout"))

        make.publish(other, make.flag_piece("read-only"))
        refreshed(known, "published")

        assert told == []

    def test_a_revoked_token_is_told_and_refused(self, known: State, where: Environment) -> None:
        token, text = make.token(where)
        told: list[str] = []
        refreshed(known).listen(lambda watched: None, lambda: told.append("keys"))
        allowed = get(known, text).status_code

        accounts.revoke_token(token.pk, version=None, reason="leaked", actor=make.actor(where))
        refreshed(known, "tokens")

        assert (allowed, get(known, text).status_code, told) == (200, 401, ["keys"])


class TestLookups:
    def test_a_token_made_a_moment_ago_is_found_at_once(
        self, known: State, where: Environment
    ) -> None:
        refreshed(known)
        _token, text = make.token(where)

        assert get(known, text).status_code == 200

    def test_a_flood_of_bad_tokens_asks_the_database_only_up_to_the_cap(
        self, known: State, where: Environment
    ) -> None:
        refreshed(known)
        bad = [f"hf_{number:012d}_{'A' * 43}" for number in range(1_000)]

        started = time.monotonic()

        with CaptureQueriesContext(connection) as asked:
            statuses = {get(known, token).status_code for token in bad}

        assert statuses == {401}
        assert len(asked) <= PER_SECOND * (time.monotonic() - started + 1)

    def test_one_bad_token_is_looked_up_once(self, known: State, where: Environment) -> None:
        refreshed(known)
        bad = f"hf_{'b' * 12}_{'A' * 43}"

        with CaptureQueriesContext(connection) as asked:
            statuses = {get(known, bad).status_code for _ in range(100)}

        assert (statuses, len(asked)) == ({401}, 1)

    def test_without_a_database_an_unknown_token_gets_503_and_a_known_one_its_policy(
        self, known: State, where: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _token, text = make.token(where)
        refreshed(known)
        monkeypatch.setattr("apps.delivery.state.read_keys", _unreachable)

        unknown = get(known, f"hf_{'c' * 12}_{'A' * 43}")

        assert (unknown.status_code, unknown["Retry-After"]) == (503, "2")
        assert get(known, text).status_code == 200

    def test_a_key_found_during_a_refresh_survives_it(
        self, known: State, where: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refreshed(known)

        def read_places(*arguments: Any) -> Any:
            _token, text = make.token(where)
            statuses.append(get(known, text).status_code)
            texts.append(text)
            return selectors.read_places(*arguments)

        statuses: list[int] = []
        texts: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr("apps.delivery.state.read_places", read_places)
            refreshed(known, "tokens")

        assert [*statuses, get(known, texts[0]).status_code] == [200, 200]

    def test_the_memory_of_bad_tokens_is_short_and_bounded(self) -> None:
        now = [0.0]
        lookups = Lookups(lambda: now[0])
        taken = [lookups.take(str(number)) for number in range(100)]
        lookups.missed("0")
        now[0] = 1.0
        soon = lookups.may("0")
        now[0] = 5.1

        assert sum(taken) == PER_SECOND
        assert (soon, lookups.may("0")) == (False, True)


class TestCost:
    def test_200_and_304_ask_the_database_nothing(
        self, known: State, where: Environment, django_assert_num_queries: Queries
    ) -> None:
        _token, text = make.token(where)
        refreshed(known)

        with django_assert_num_queries(0):
            full = get(known, text)
            short = get(known, text, **{"If-None-Match": full["ETag"]})

        assert (full.status_code, short.status_code) == (200, 304)

    def test_a_client_that_moves_between_servers_of_two_epochs_gets_each_ones_document(
        self, where: Environment
    ) -> None:
        old, new = State(), State()
        _token, text = make.token(where)
        old.refresh()
        publication.new_epoch(reason="restored", actor=make.actor(where))
        new.refresh()

        first = get(old, text)
        moved = get(new, text, **{"If-None-Match": first["ETag"]})
        back = get(old, text, **{"If-None-Match": moved["ETag"]})

        assert [first.status_code, moved.status_code, back.status_code] == [200, 200, 200]
        assert first.content == back.content != moved.content


class TestHealth:
    def test_live_and_ready_are_open(self, client: Client, where: Environment) -> None:
        answers = [client.get(f"/api/v1/health/{name}") for name in ("live", "ready")]

        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[1].json() == {"status": "pass"}
        assert answers[1]["Content-Type"] == "application/health+json"

    def test_a_process_that_is_about_to_stop_is_not_ready(
        self, client: Client, known: State
    ) -> None:
        known.is_draining = True

        answer = client.get("/api/v1/health/ready")

        assert (answer.status_code, answer.json()) == (503, {"status": "fail"})


@pytest.mark.django_db(transaction=True)
def test_a_commit_in_any_thread_is_heard(known: State) -> None:
    where = make.environment()
    refreshed(known)
    heard = threading.Event()
    cancel = bus.subscribe("published", lambda data: heard.set())

    make.publish(where, make.flag_piece("read-only"))
    cancel()

    assert heard.is_set()
    assert document(refreshed(known), where).revision == 1
