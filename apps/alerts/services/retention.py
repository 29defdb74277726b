"""Letting go of what is long over."""

from datetime import timedelta

from apps.alerts.models import Alert, Notification, Silence
from apps.core import clock
from apps.core.db import delete_in_batches

ALERTS_KEPT = timedelta(days=400)  # after they were resolved, with what was done because of them
NOTIFICATIONS_KEPT = timedelta(days=90)  # after they were sent or given up
SILENCES_KEPT = timedelta(days=400)  # after their end


def prune() -> None:
    """Let go of what is too old, in batches. Safe to run twice or in parallel."""
    now = clock.now()
    delete_in_batches(Notification.objects.filter(finished_at__lt=now - NOTIFICATIONS_KEPT))
    delete_in_batches(
        Alert.objects.filter(state=Alert.State.RESOLVED, resolved_at__lt=now - ALERTS_KEPT)
    )
    delete_in_batches(Silence.objects.filter(ends_at__lt=now - SILENCES_KEPT))
