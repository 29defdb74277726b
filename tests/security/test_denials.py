"""Refusals are kept, but nobody fills the audit log with them."""

import pytest

from apps.audit import denials
from apps.audit.denials import MOST_A_MINUTE, Bounds
from apps.audit.models import Entry
from apps.core.actor import automation
from tests import make

MINUTE = 60.0


class TestBounds:
    def test_sixty_of_an_actor_are_kept_in_a_minute(self) -> None:
        bounds, actor = Bounds(), automation("a", 1)

        taken = [bounds.take(actor, MINUTE) for _ in range(MOST_A_MINUTE + 2)]

        assert taken == [True] * MOST_A_MINUTE + [False] * 2
        assert bounds.take(actor, 2 * MINUTE)

    def test_another_actors_are_kept_all_the_same(self) -> None:
        bounds = Bounds()
        [bounds.take(automation("a", 1), MINUTE) for _ in range(MOST_A_MINUTE + 1)]

        assert bounds.take(automation("b", 1), MINUTE)


@pytest.mark.django_db
def test_a_token_that_knocks_again_and_again_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(denials, "bounds", Bounds())
    monkeypatch.setattr(denials, "MOST_A_MINUTE", 3)
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
