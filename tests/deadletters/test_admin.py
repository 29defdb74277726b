"""The inbox: what it shows to whom, what its pages change, and that nothing in it is rendered."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from apps.audit.models import Entry
from apps.deadletters.models import DeadLetter, Group, Redrive
from apps.fleet.models import Service
from tests import make

pytestmark = pytest.mark.django_db
EVIL = "<script>alert('x')</script>"


def page(model: str, name: str, *key: Any) -> str:
    return reverse(f"admin:deadletters_{model}_{name}", args=key)


def post(client: Client, model: str, row: Any, name: str, **values: Any) -> Any:
    version = {"version": row.version} if hasattr(row, "version") else {}
    return client.post(page(model, name, row.pk), version | values)


@pytest.fixture
def service() -> Service:
    return make.service(slug="checkout")


class TestInbox:
    def test_shows_groups_with_counts_and_causes(self, service: Service) -> None:
        make.letters(service, "a", "b")
        make.letters(service, "c", error={"class": "Declined", "message": "no money"})

        text = make.browser().get(page("group", "changelist")).text

        assert "ConnectTimeout: timed out after 2.0 s" in text
        assert "Declined: no money" in text
        assert "Why, in the last 24 hours" in text

    def test_groups_without_unresolved_letters_can_be_left_out(self, service: Service) -> None:
        (letter,) = make.letters(service, error={"class": "OldTrouble"})
        DeadLetter.objects.update(status="resolved")
        Group.objects.update(unresolved=0)

        shown = make.browser().get(page("group", "changelist") + "?waiting=yes").text

        assert page("group", "change", letter.group_id) not in shown

    @pytest.mark.parametrize("model", ["group", "deadletter", "redrive"])
    def test_an_empty_list_says_what_to_do(self, model: str) -> None:
        text = make.browser().get(page(model, "changelist")).text

        assert "deadletters:write" in text or "To the groups" in text

    @pytest.mark.parametrize("model", ["group", "deadletter", "redrive"])
    def test_long_lists_take_no_more_queries(
        self, service: Service, model: str, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(20):
            make.redrive(*make.letters(service, error={"class": f"Error{number}"}))
        client = make.browser()

        with django_assert_max_num_queries(16):
            client.get(page(model, "changelist"))


class TestLetter:
    @pytest.fixture
    def letter(self, service: Service) -> DeadLetter:
        (letter,) = make.letters(
            service,
            "order-1",
            headers={"Authorization": "Bearer secret", "note": EVIL},
            error={"class": "Boom", "message": EVIL, "stack": EVIL},
            body={"encoding": "utf-8", "content_type": "text/html", "data": f"<b>{EVIL}</b>"},
        )
        return letter

    def test_everything_it_says_is_text(self, letter: DeadLetter) -> None:
        text = make.browser().get(page("deadletter", "change", letter.pk)).text

        assert EVIL not in text
        assert text.count("&lt;script&gt;") >= 4
        assert "&lt;b&gt;" in text

    def test_what_is_redacted_is_shown_so(self, letter: DeadLetter) -> None:
        text = make.browser().get(page("deadletter", "change", letter.pk)).text

        assert "Bearer secret" not in text
        assert "&lt;redacted&gt;" in text
        assert "headers.Authorization" in text

    def test_viewers_do_not_see_its_body_or_headers(self, letter: DeadLetter) -> None:
        seen = {
            role: "&lt;b&gt;"
            in make.browser(make.member(letter.environment, role))
            .get(page("deadletter", "change", letter.pk))
            .text
            for role in ("viewer", "operator")
        }

        assert seen == {"viewer": False, "operator": True}

    def test_discard_needs_a_reason_and_is_audited(self, letter: DeadLetter) -> None:
        client = make.browser()

        refused = post(client, "deadletter", letter, "discard", reason="")
        done = post(client, "deadletter", letter, "discard", reason="paid in cash")

        letter.refresh_from_db()
        assert (refused.status_code, done.status_code) == (422, 302)
        assert (letter.status, letter.discard_reason) == ("discarded", "paid in cash")
        assert Group.objects.get().unresolved == 0
        assert Entry.objects.get(action="dead_letter.discarded").reason == "paid in cash"

    def test_acknowledge(self, letter: DeadLetter) -> None:
        answer = post(make.browser(), "deadletter", letter, "acknowledge")

        letter.refresh_from_db()
        assert (answer.status_code, letter.status) == (302, "acknowledged")

    def test_a_change_of_what_moved_on_is_refused(self, letter: DeadLetter) -> None:
        client = make.browser()
        post(client, "deadletter", letter, "acknowledge")

        answer = post(client, "deadletter", letter, "discard", reason="x")

        assert answer.status_code == 422
        assert DeadLetter.objects.get().status == "acknowledged"


class TestRedrives:
    def test_the_page_says_what_is_hit_and_redrives_the_group(self, service: Service) -> None:
        letters = make.letters(service, "a", "b", "c")
        DeadLetter.objects.filter(pk=letters[2].pk).update(status="quarantined")
        group, client = Group.objects.get(), make.browser()

        text = client.get(page("group", "redrive", group.pk)).text
        answer = post(client, "group", group, "redrive", reason="provider is back")

        assert "2 letters of checkout" in text
        assert "Left alone: quarantined" in text
        assert answer.status_code == 302
        assert Redrive.objects.get().pending == 2

    def test_selected_letters_are_asked_for_a_reason(self, service: Service) -> None:
        letters = [make.letters(service, key, idempotency_key=key)[0] for key in "abc"]
        client = make.browser(make.member(service.environment, "operator"))
        keys = [letter.pk for letter in letters[:2]]

        chosen = client.post(
            page("deadletter", "changelist"),
            {"action": "redrive_selected", "_selected_action": keys},
        )
        asked = client.get(chosen["Location"])
        done = client.post(
            page("deadletter", "redrive-selected"), {"letters": keys, "reason": "back"}
        )

        assert f"{letters[0]} · checkout · ConnectTimeout" in asked.text
        assert f"{letters[2]} · checkout" not in asked.text
        assert done.status_code == 302
        assert Redrive.objects.get().pending == 2

    def test_a_letter_is_named_as_people_know_it_whatever_its_key_holds(
        self, service: Service
    ) -> None:
        (letter,) = make.letters(service, "k", idempotency_key="100 %(off)s order 7")

        redrive = make.redrive(letter)

        assert str(redrive) == f"{letter.handler} 100 %(off)s order 7"

    def test_letters_of_two_environments_are_not_one_redrive(self, service: Service) -> None:
        keys = [make.letters(each)[0].pk for each in (service, make.service())]

        answer = make.browser().post(
            page("deadletter", "redrive-selected"), {"letters": keys, "reason": "back"}
        )

        assert answer.status_code == 422
        assert not Redrive.objects.exists()

    def test_progress_is_a_fragment_of_the_page(self, service: Service) -> None:
        redrive = make.redrive(*make.letters(service))
        client = make.browser(make.member(service.environment, "viewer"))

        whole = client.get(page("redrive", "change", redrive.pk)).text
        part = client.get(page("redrive", "progress", redrive.pk)).text

        assert part.strip() in whole
        assert "Nobody has asked for these letters yet" in part
        assert "<html" not in part

    def test_another_environments_progress_is_not_found(self, service: Service) -> None:
        redrive = make.redrive(*make.letters(service))

        answer = make.browser(make.member()).get(page("redrive", "progress", redrive.pk))

        assert answer.status_code == 404

    def test_pause_resume_and_cancel(self, service: Service) -> None:
        redrive, client = make.redrive(*make.letters(service)), make.browser()
        states = []

        for name in ("pause", "resume", "end"):
            redrive.refresh_from_db()
            post(client, "redrive", redrive, name, reason="x")
            states.append(Redrive.objects.get().state)

        assert states == ["paused", "running", "cancelled"]
        assert DeadLetter.objects.get().status == "new"
