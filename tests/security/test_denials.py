"""Refusals are kept, but nobody fills the audit log with them."""

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Membership, User
from apps.audit import bounds
from apps.audit.bounds import MOST_A_MINUTE, Bounds
from apps.audit.models import Entry
from apps.core.actor import automation
from apps.fleet.models import Environment
from tests import make

MINUTE = 60.0


class TestBounds:
    def test_sixty_of_an_actor_are_kept_in_a_minute(self) -> None:
        counted, actor = Bounds(), automation("a", 1)

        taken = [counted.take(actor, MINUTE) for _ in range(MOST_A_MINUTE + 2)]

        assert taken == [True] * MOST_A_MINUTE + [False] * 2
        assert counted.take(actor, 2 * MINUTE)

    def test_another_actors_are_kept_all_the_same(self) -> None:
        counted = Bounds()
        [counted.take(automation("a", 1), MINUTE) for _ in range(MOST_A_MINUTE + 1)]

        assert counted.take(automation("b", 1), MINUTE)


@pytest.mark.django_db
def test_a_token_that_knocks_again_and_again_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bounds, "MOST_A_MINUTE", 3)
    api = make.client(scopes=["policies:read"])

    statuses = {api.post("/api/v1/flags", {}).status_code for _ in range(9)}

    assert statuses == {403}
    assert 3 <= Entry.objects.filter(outcome="denied").count() <= 6  # a minute may have begun anew
    assert "denial.not_audited" in caplog.text


@pytest.mark.django_db
def test_a_refused_address_that_no_column_can_hold_is_kept_as_well_as_may_be() -> None:
    api = make.client(scopes=["policies:read"])

    assert api.post("/api/v1/presets/a%00b/apply", {}).status_code == 403
    assert "\ufffd" in Entry.objects.get(outcome="denied").object_label


@pytest.mark.django_db
def test_policies_without_the_scope_are_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    api = make.client(scopes=["config:read"])

    assert api.get("/api/v1/policies/checkout").status_code == 403
    assert "denial.not_audited" in caplog.text
    assert not Entry.objects.filter(outcome="denied").exists()


@pytest.mark.django_db
def test_a_screen_whose_token_may_not_look_is_recorded() -> None:
    token, text = make.token(scopes=["config:read"])

    Client().get("/wall/", {"token": text})

    entry = Entry.objects.get(outcome="denied")
    assert (entry.actor_label, entry.action) == (token.name, "GET /wall/")
    assert text not in entry.text


@pytest.mark.django_db
class TestWhoseChain:
    """Of somebody in several environments, it goes where what they tried would have gone."""

    def test_a_page_of_the_console(self) -> None:
        here, person = in_two_environments()
        flag = make.flag(here)

        answer = make.browser(person).get(reverse("admin:degradation_flag_engage", args=[flag.pk]))

        assert answer.status_code == 403
        assert chain_of_the_denial() == here.pk

    @pytest.mark.parametrize("path", ["/api/v1/flags/{flag}/engage", "/api/v1/tokens/{token}/end"])
    def test_a_row_of_the_api(self, path: str) -> None:
        here, person = in_two_environments()
        flag, (token, _text) = make.flag(here), make.token(here)

        answer = make.browser(person).post(path.format(flag=flag.pk, token=token.pk))

        assert answer.status_code == 403
        assert chain_of_the_denial() == here.pk

    def test_a_list_of_the_api_is_the_systems(self) -> None:
        _here, person = in_two_environments()

        answer = make.browser(person).post("/api/v1/flags")

        assert answer.status_code == 403
        assert chain_of_the_denial() is None


def in_two_environments() -> tuple[Environment, User]:
    """One of the two environments in which a person may only look, and that person."""
    here, person = make.environment(), make.member(role="viewer")
    Membership.objects.create(user=person, environment=here, role="viewer")
    return here, person


def chain_of_the_denial() -> int | None:
    return Entry.objects.select_related("chain").get(outcome="denied").chain.environment_id
