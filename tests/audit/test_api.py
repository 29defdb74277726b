"""The audit log over HTTP: searching, one entry with its diff, the chains."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from apps.audit import services, triggers
from apps.audit.models import Entry
from apps.core import clock
from apps.degradation import services as degradation
from tests import make

AUDIT = "/api/v1/audit"


def found(client: Any, query: str = "") -> list[str]:
    return [entry["action"] for entry in client.get(f"{AUDIT}{query}").json()["results"]]


@pytest.mark.django_db
class TestList:
    def test_shows_the_environments_entries_newest_first(self) -> None:
        flag = make.engaged()
        make.engaged()  # elsewhere
        actor = make.actor(flag.environment)
        degradation.end_flag(flag.pk, version=2, reason="well", actor=actor)

        client = make.client(flag.environment)

        assert found(client) == ["token.created", "flag.ended", "flag.engaged"]

    def test_filters(self) -> None:
        flag = make.engaged()
        client = make.client(flag.environment)

        assert found(client, "?action=flag.engaged") == ["flag.engaged"]
        assert found(client, "?object=flag") == ["flag.engaged"]
        assert found(client, f"?object=flag:{flag.pk}") == ["flag.engaged"]
        assert found(client, "?object=flag:0") == []
        assert found(client, "?actor=ana&object=flag") == ["flag.engaged"]
        assert found(client, "?actor=nobody") == []
        assert found(client, "?outcome=denied") == []

    def test_by_time(self) -> None:
        flag = make.engaged()
        client = make.client(flag.environment)
        instant = Entry.objects.get(action="flag.engaged").at
        exact = instant.isoformat().replace("+00:00", "Z")
        later = (instant + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")

        assert found(client, f"?object=flag&since={exact}") == ["flag.engaged"]
        assert found(client, f"?object=flag&since={later}") == []
        assert found(client, f"?object=flag&until={exact}") == []

    def test_by_request(self) -> None:
        place = make.environment()
        client = make.client(place)
        body = {"key": "a", "kind": "custom"}
        client.post("/api/v1/flags", body, headers={"X-Request-ID": "click-7"})

        assert found(client, "?request_id=click-7") == ["flag.created"]

    @pytest.mark.parametrize(
        "query",
        [
            "?since=yesterday",
            "?since=0001-01-01T00:00:00%2B23:59",
            "?until=9999-12-31T23:59:59-23:59",
            "?object=%3B",
            "?outcome=maybe",
            "?actor=%00",
            "?acton=x",
        ],
    )
    def test_a_filter_that_means_nothing_is_refused(self, query: str) -> None:
        assert make.client().get(f"{AUDIT}{query}").status_code == 400

    def test_needs_its_scope(self) -> None:
        client = make.client(scopes=["config:read"])

        assert client.get(AUDIT).status_code == 403

    def test_the_system_chain_is_for_its_keepers(self) -> None:
        keeper, member = make.user(is_superuser=True), make.member()
        with transaction.atomic():
            services.record("epoch.started", keeper, actor=make.actor(), environment_id=None)

        assert "epoch.started" in found(make.browser(keeper))
        assert "epoch.started" not in found(make.browser(member))


@pytest.mark.django_db
class TestOneEntry:
    def test_says_what_changed(self) -> None:
        flag = make.engaged()
        entry = Entry.objects.get(action="flag.engaged")

        shown = make.client(flag.environment).get(f"{AUDIT}/{entry.pk}").json()

        changed = {each["field"]: (each["before"], each["after"]) for each in shown["diff"]}
        assert changed["enabled"] == (False, True)
        assert changed["reason"] == ("", "primary failing over")
        assert "key" not in changed
        assert (shown["hash"], shown["previous"]) == (entry.hash, "")

    def test_of_another_environment_is_not_there(self) -> None:
        make.engaged()
        entry = Entry.objects.get(action="flag.engaged")

        assert make.client().get(f"{AUDIT}/{entry.pk}").status_code == 404


@pytest.mark.django_db
class TestVerify:
    def test_says_that_the_chain_holds(self) -> None:
        flag = make.engaged()

        answer = make.client(flag.environment).get(f"{AUDIT}/verify").json()

        assert answer == {
            "chains": [
                {
                    "chain": f"environment {flag.environment_id}",
                    "entries": 2,
                    "holds": True,
                    "broken_at": None,
                    "why": "",
                }
            ]
        }

    def test_names_the_entry_that_broke(self) -> None:
        flag = make.engaged()
        client = make.client(flag.environment)
        with triggers.lifted():
            Entry.objects.filter(sequence=1).update(reason="other")

        (chain,) = client.get(f"{AUDIT}/verify").json()["chains"]

        assert (chain["holds"], chain["broken_at"]) == (False, 1)


@pytest.mark.django_db(transaction=True)
def test_a_denial_is_kept_although_the_request_is_rolled_back() -> None:
    flag = make.flag()
    client = make.client(flag.environment, scopes=["config:read"])
    started = clock.now()

    client.post(f"/api/v1/flags/{flag.pk}/end", {"reason": "x"}, headers={"If-Match": '"1"'})

    entry = Entry.objects.get(outcome="denied")
    assert entry.at >= started
    assert "flags:write" in entry.reason


@pytest.mark.django_db
def test_what_the_console_refuses_is_recorded() -> None:
    flag = make.flag()
    person = make.member(flag.environment, "viewer")

    answer = make.browser(person).get(f"/admin/degradation/flag/{flag.pk}/engage/")

    assert answer.status_code == 403
    entry = Entry.objects.get()
    assert (entry.outcome, entry.actor_label) == ("denied", person.username)
