"""Evaluating rules: transitions, each claimed once and in a transaction of its own."""

from collections.abc import Iterable
from datetime import datetime

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.translation import gettext as _

from apps.alerts.models import Alert, Rule, Transition
from apps.alerts.rules import states
from apps.alerts.rules.kinds import Reading
from apps.alerts.rules.states import Memory
from apps.alerts.selectors.readings import Sources, Subject, expected, readings
from apps.alerts.services import acting, telling
from apps.core import bus, clock
from apps.fleet.models import Service

log = structlog.get_logger(__name__)


def judge(environment_id: int, *, seen_at: datetime | None) -> int:
    """Evaluate every rule of an environment; returns how many alerts changed their state.

    `seen_at` is when that was last done. Two that judge at once change nothing twice.
    """
    rules = Rule.objects.filter(environment_id=environment_id, enabled=True)
    by_rule: dict[int | None, list[Alert]] = {}
    alerts = Alert.objects.filter(environment_id=environment_id).open()
    for alert in alerts.select_related("rule", "service", "environment"):
        by_rule.setdefault(alert.rule_id, []).append(alert)
    sources, changed = Sources(environment_id), 0
    for rule in rules.select_related("service", "dependency", "environment"):
        changed += _Round(rule, sources, by_rule.pop(rule.pk, []), seen_at).run()
    for left in by_rule.values():  # of rules that were removed or disabled
        changed += sum(close(alert, _("The rule was disabled.")) for alert in left)
    if changed:
        bus.announce("alerts", environment_id=environment_id)
    return changed


class _Round:
    """One evaluation of one rule."""

    def __init__(
        self, rule: Rule, sources: Sources, alerts: Iterable[Alert], seen_at: datetime | None
    ) -> None:
        self.rule = rule
        self.sources = sources
        self.alerts = {alert.subject: alert for alert in alerts}
        self.terms = rule.terms()
        self.seen_at = seen_at
        self.now = clock.now()
        self.measured: list[Alert] = []

    def run(self) -> int:
        changed = sum(self._look(*each) for each in readings(self.rule, self.sources).items())
        changed += sum(map(self._unmeasured, self.alerts.values()))
        Alert.objects.bulk_update(self.measured, ["value", "samples", "unmet_at"])
        return changed

    def _look(self, subject: Subject, reading: Reading) -> bool:
        return self._step(subject, self.alerts.pop(subject.name, None), reading)

    def _unmeasured(self, alert: Alert) -> bool:
        subject = subject_of(alert)
        if expected(self.rule, subject, self.sources):
            return self._step(subject, alert, Reading(None))
        return close(alert, _("It is no longer there, or nothing was heard of it for a day."))

    def _step(self, subject: Subject, alert: Alert | None, reading: Reading) -> bool:
        before = alert.memory if alert else None
        after = states.step(before, reading, self.terms, self.now, self.seen_at)
        if alert is None:
            return after is not None and self._open(subject, after, reading)
        if after is None:
            return _dissolve(alert)
        if after.state != alert.state or after.active_at != alert.active_at:
            return move(alert, after, reading)
        self._measure(alert, after, reading)
        return False

    def _measure(self, alert: Alert, after: Memory, reading: Reading) -> None:
        """Note what is new of an alert that stays in its state."""
        value = alert.value if reading.value is None else reading.value
        new = (value, reading.samples, after.unmet_at)
        if new != (alert.value, alert.samples, alert.unmet_at):
            alert.value, alert.samples, alert.unmet_at = new
            self.measured.append(alert)

    def _open(self, subject: Subject, after: Memory, reading: Reading) -> bool:
        rule = self.rule
        service = Service.objects.filter(
            environment_id=rule.environment_id, slug=subject.service
        ).first()
        try:
            with transaction.atomic():
                alert = Alert.objects.create(
                    environment=rule.environment,
                    rule=rule,
                    key=rule.key,
                    kind=rule.kind,
                    severity=rule.severity,
                    threshold=rule.threshold,
                    subject=subject.name,
                    service=service,
                    dependency=subject.dependency,
                    check_name=subject.check,
                    instance=subject.instance,
                    state=after.state,
                    active_at=after.active_at,
                    fired_at=after.fired_at,
                    unmet_at=after.unmet_at,
                    value=reading.value,
                    samples=reading.samples,
                )
                _follow(alert, None, after)
        except IntegrityError:  # another process opened it in this instant
            if Alert.objects.filter(rule=rule, subject=subject.name).open().exists():
                return False
            raise
        return True


def subject_of(alert: Alert) -> Subject:
    return Subject(
        alert.subject,
        service=alert.service.slug if alert.service else "",
        dependency=alert.dependency,
        check=alert.check_name,
        instance=alert.instance,
    )


def close(alert: Alert, why: str) -> bool:
    """Resolve an alert for another reason than its value; a pending one is forgotten."""
    if alert.state == Alert.State.PENDING:
        return _dissolve(alert)
    after = Memory(states.RESOLVED, alert.active_at, alert.fired_at)
    return move(alert, after, Reading(alert.value, alert.samples), why)


def _dissolve(alert: Alert) -> bool:
    """A pending alert whose condition is no longer met was nothing."""
    rows = Alert.objects.filter(pk=alert.pk, state=alert.state)
    return bool(rows.delete()[0])


def move(alert: Alert, after: Memory, reading: Reading, why: str = "") -> bool:
    """Bring an alert into another state, if it still is in the one it was found in.

    A compare-and-swap: of two processes one does it, and what follows from it is written once.
    """
    before = alert.memory
    changes = {
        "state": after.state,
        "active_at": after.active_at,
        "fired_at": after.fired_at,
        "unmet_at": after.unmet_at,
        "value": alert.value if reading.value is None else reading.value,
        "samples": reading.samples,
        "resolved_at": clock.now() if after.state == states.RESOLVED else None,
        "resolution": why,
    }
    with transaction.atomic():
        found = Alert.objects.filter(
            pk=alert.pk, state=before.state, active_at=before.active_at, fired_at=before.fired_at
        )
        if found.update(version=F("version") + 1, **changes) != 1:
            return False
        for name, value in changes.items():
            setattr(alert, name, value)
        alert.version += 1
        _follow(alert, before, after)
    return True


def _follow(alert: Alert, before: Memory | None, after: Memory) -> None:
    """What comes of a transition: its row, messages, and last the actions, which audit."""
    row = Transition.objects.create(
        alert=alert,
        at=clock.now(),
        from_state=before.state if before else "",
        to_state=after.state,
        value=alert.value,
        samples=alert.samples,
    )
    log.info(
        "alert.moved",
        state=after.state,
        alert_id=alert.pk,
        environment_id=alert.environment_id,
        rule=alert.key,
        subject=alert.subject,
    )
    if not states.is_told(before, after):
        return
    telling.tell_of_alert(alert, row)
    if after.state == states.FIRING:
        acting.engage_for(alert)
    elif after.state == states.RESOLVED:
        acting.release_after(alert)
