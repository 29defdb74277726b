"""What Holdfast switches by itself: in shadow unless armed, and the human always wins."""

from datetime import timedelta
from typing import Any

import pytest

from apps.alerts import services
from apps.alerts.models import Action, Alert, AlertEnvironmentSettings, Engagement, Rule
from apps.alerts.services import acting
from apps.audit.models import Entry
from apps.core import clock
from apps.core.errors import Conflict, RuleBroken
from apps.degradation import services as degradation
from apps.degradation.models import Flag
from tests import make
from tests.alerts.test_sending import fire_of, resolve

pytestmark = pytest.mark.django_db


def armed(**settings: Any) -> Action:
    return make.action(mode="armed", **settings)


def down() -> Rule:
    """A rule about checks, which go on whatever flag is engaged."""
    return make.alert_rule(kind="check_down", threshold=1)


def outcome() -> str:
    return Engagement.objects.latest("pk").outcome


class TestShadow:
    def test_writes_down_what_it_would_have_done_and_whom_it_would_hit(self) -> None:
        action = make.action()
        make.service(action.environment)

        fire_of(action.rule)

        row = Engagement.objects.get()
        assert (row.outcome, row.detail) == ("shadow", "1 service, 0 instances, 0 silent")
        assert not Flag.objects.exists()

    def test_is_what_an_action_begins_as(self) -> None:
        assert make.action(flag_key="read-only", flag_kind="read_only").mode == "shadow"

    def test_arming_needs_a_reason(self) -> None:
        action = make.action()

        with pytest.raises(RuleBroken):
            services.update_action(
                action.pk,
                version=1,
                changes={"mode": "armed"},
                actor=make.actor(action.environment),
            )


class TestArmed:
    def test_engages_the_flag_with_a_lease_and_names_the_alert(self) -> None:
        action = armed()

        alert = fire_of(action.rule)

        flag = Flag.objects.get()
        assert (flag.key, flag.kind, flag.enabled) == ("lean", "fallback", True)
        assert flag.set_by == "alert action"
        assert alert.key in flag.reason
        assert flag.expires_at is not None
        assert flag.expires_at - clock.now() <= timedelta(seconds=900)
        assert Entry.objects.filter(action="flag.engaged", actor_kind="automation").exists()

    def test_releases_it_on_recovery(self) -> None:
        action = armed()
        alert = fire_of(action.rule)

        resolve(alert)

        assert (Flag.objects.get().enabled, outcome()) == (False, "released")

    def test_holds_it_until_the_last_alert_of_the_rule_is_over(self) -> None:
        action = armed()
        first, second = fire_of(action.rule, "one"), fire_of(action.rule, "two")

        resolve(first)
        assert Flag.objects.get().enabled

        resolve(second)
        assert not Flag.objects.get().enabled

    def test_leaves_alone_what_a_person_touched_since(self) -> None:
        action = armed()
        alert = fire_of(action.rule)
        flag = Flag.objects.get()
        by = make.actor(action.environment)
        degradation.extend_flag(
            flag.pk, version=None, lease=timedelta(hours=2), reason="looking", actor=by
        )

        resolve(alert)

        assert (Flag.objects.get().enabled, outcome()) == (True, "taken_over")

    def test_leaves_alone_what_a_person_engaged(self) -> None:
        action = armed()
        make.engaged(action.environment, "lean", kind="fallback")

        alert = fire_of(action.rule)
        assert outcome() == "refused"
        resolve(alert)

        assert Flag.objects.get().set_by == "ana"
        assert Flag.objects.get().enabled

    def test_does_not_engage_again_what_a_person_ended(self) -> None:
        action = armed()
        fire_of(action.rule)
        flag = Flag.objects.get()
        by = make.actor(action.environment)
        degradation.end_flag(flag.pk, version=None, reason="no", actor=by)

        acting.look_after(action.environment_id)

        assert (Flag.objects.get().enabled, outcome()) == (False, "taken_over")

    def test_a_flag_of_another_kind_is_refused_with_a_word(self) -> None:
        action = armed()
        make.flag(action.environment, "lean", kind="read_only")

        fire_of(action.rule)

        assert outcome() == "refused"
        assert "another kind" in Engagement.objects.get().detail

    def test_without_release_the_flag_stays_to_its_lease(self) -> None:
        action = armed(release_on_recovery=False)
        alert = fire_of(action.rule)

        resolve(alert)

        assert (Flag.objects.get().enabled, outcome()) == (True, "left")


class TestLeases:
    def test_one_is_renewed_while_the_alert_fires_up_to_the_maximum(self) -> None:
        action = armed(of=down(), lease_seconds=120, max_lease_seconds=300)
        begin = clock.now()
        with clock.use(lambda: begin):
            fire_of(action.rule)
        ends = []
        for seconds in (100, 215, 290):
            with clock.use(lambda at=begin + timedelta(seconds=seconds): at):  # type: ignore[misc]  # bound early
                acting.look_after(action.environment_id)
            ends.append(Flag.objects.get().expires_at)

        assert ends == [begin + timedelta(seconds=seconds) for seconds in (220, 300, 300)]

    def test_one_that_is_over_is_left_so(self) -> None:
        action = armed(lease_seconds=60, max_lease_seconds=60)
        begin = clock.now()
        with clock.use(lambda: begin):
            fire_of(action.rule)
        with clock.use(lambda: begin + timedelta(seconds=61)):
            degradation.end_due_flags()
            acting.look_after(action.environment_id)

        assert (Flag.objects.get().enabled, outcome()) == (False, "left")


class TestFlagsThatHideTheirReason:
    """A fallback flag skips the calls by which its alert's rule judges."""

    BEGIN = clock.now()

    def look(self, action: Action, *, after: float) -> bool:
        """Whether the flag is engaged once leases were ended and actions looked after."""
        with clock.use(lambda: self.BEGIN + timedelta(seconds=after)):
            degradation.end_due_flags()
            acting.look_after(action.environment_id)
        return Flag.objects.get().enabled

    def fired(self, action: Action) -> Alert:
        with clock.use(lambda: self.BEGIN):
            return fire_of(action.rule)

    def test_its_lease_is_not_renewed_so_that_calls_can_tell(self) -> None:
        action = armed(lease_seconds=120, max_lease_seconds=3600)
        self.fired(action)

        assert [self.look(action, after=after) for after in (100, 121)] == [True, False]

    def test_it_is_engaged_again_when_the_calls_go_on_failing(self) -> None:
        action = armed(lease_seconds=120, max_lease_seconds=3600)
        self.fired(action)

        looks = [self.look(action, after=after) for after in (121, 150, 182)]

        assert looks == [False, False, True]

    def test_it_stays_off_when_the_calls_succeed(self) -> None:
        action = armed(lease_seconds=120, max_lease_seconds=3600)
        alert = self.fired(action)
        assert not self.look(action, after=121)

        Alert.objects.filter(pk=alert.pk).update(unmet_at=self.BEGIN + timedelta(seconds=140))

        assert not self.look(action, after=182)

    def test_never_beyond_the_longest_time_since_the_alert_fired(self) -> None:
        action = armed(lease_seconds=120, max_lease_seconds=240)
        self.fired(action)

        assert [self.look(action, after=after) for after in (121, 182)] == [False, False]

    def test_not_while_frozen(self) -> None:
        action = armed(lease_seconds=120, max_lease_seconds=3600)
        self.fired(action)
        self.look(action, after=121)
        AlertEnvironmentSettings.objects.create(environment=action.environment, frozen=True)

        assert not self.look(action, after=182)


class TestFreeze:
    def freeze(self, action: Action, *, frozen: bool) -> None:
        services.freeze_actions(
            action.environment_id,
            frozen=frozen,
            version=None,
            reason="drill",
            actor=make.actor(action.environment),
        )

    def test_nothing_is_engaged_while_frozen(self) -> None:
        action = armed()
        self.freeze(action, frozen=True)

        fire_of(action.rule)

        assert (Flag.objects.count(), outcome()) == (0, "frozen")

    def test_what_is_engaged_is_released_once_thawed(self) -> None:
        action = armed()
        alert = fire_of(action.rule)
        self.freeze(action, frozen=True)
        resolve(alert)
        assert Flag.objects.get().enabled

        self.freeze(action, frozen=False)
        acting.look_after(action.environment_id)

        assert (Flag.objects.get().enabled, outcome()) == (False, "released")

    def test_is_in_the_audit_log_and_cannot_be_done_twice(self) -> None:
        action = make.action()
        self.freeze(action, frozen=True)

        with pytest.raises(Conflict):
            self.freeze(action, frozen=True)

        assert Entry.objects.filter(action="actions.frozen").count() == 1
