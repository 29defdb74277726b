"""The compare-and-swap under every change, and the rows an actor sees."""

import pytest

from apps.core.actor import Actor, automation, command
from apps.core.db import get_visible, swap
from apps.core.errors import NotFound, RuleBroken, Stale
from apps.fleet.models import Service
from tests import make


@pytest.mark.django_db
class TestSwap:
    def test_writes_and_raises_the_version(self) -> None:
        service = make.service()

        swap(service, owner="payments")

        assert (service.owner, service.version) == ("payments", 2)
        assert Service.objects.get().owner == "payments"

    def test_a_row_that_moved_on_stays_as_it_is(self) -> None:
        service, other = make.service(), None
        other = Service.objects.get()
        swap(other, owner="payments")

        with pytest.raises(Stale) as refused:
            swap(service, owner="checkout")

        assert refused.value.row.owner == "payments"
        assert Service.objects.get().owner == "payments"

    def test_the_callers_version_counts_not_the_loaded_one(self) -> None:
        service = make.service()

        with pytest.raises(Stale):
            swap(service, version=7, owner="checkout")

    def test_a_row_that_is_gone_is_stale_without_a_newer_state(self) -> None:
        service = make.service()
        Service.objects.all().delete()

        with pytest.raises(Stale) as refused:
            swap(service, owner="checkout")

        assert refused.value.row is None


@pytest.mark.django_db
class TestGetVisible:
    def test_another_environments_row_is_not_found(self) -> None:
        service = make.service()

        with pytest.raises(NotFound):
            get_visible(Service.objects, actor=make.actor(make.environment()), pk=service.pk)

    def test_ones_own_is(self) -> None:
        service = make.service()
        actor = make.actor(service.environment)

        assert get_visible(Service.objects, actor=actor, pk=service.pk) == service


class TestActor:
    def test_acts_in_one_environment(self) -> None:
        assert automation("lease", 3).environment_id == 3

    @pytest.mark.parametrize("ids", [frozenset[int](), frozenset({1, 2})])
    def test_several_or_none_is_refused(self, ids: frozenset[int]) -> None:
        actor: Actor = command("engage", ids)

        with pytest.raises(RuleBroken) as refused:
            _ = actor.environment_id

        assert refused.value.code == "environment_required"

    def test_only_a_shell_keeps_the_system(self) -> None:
        assert command("newepoch", frozenset()).may("system:write")
        assert not automation("lease", 3).may("system:write")
