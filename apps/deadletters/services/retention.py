"""Letting go of what is over. What is unresolved never goes by itself."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction

from apps.core import clock
from apps.deadletters.models import DeadLetter, Group, Redrive
from apps.deadletters.rules import OVER
from apps.deadletters.services import writing


def prune() -> int:
    """Remove letters resolved or discarded longer ago than they are kept; returns how many.

    With them go groups without letters, and redrives that are over and have none left. In small
    transactions; safe to run twice or in parallel: a letter that failed again meanwhile stays.
    """
    before = clock.now() - timedelta(days=settings.DEAD_LETTERS_KEPT_DAYS)
    removed = 0
    while count := _prune_letters(before):
        removed += count
    Group.objects.filter(letters=0, last_seen_at__lt=before).delete()
    Redrive.objects.filter(ended_at__lt=before, items=None).delete()
    return removed


@transaction.atomic
def _prune_letters(before: object) -> int:
    over = DeadLetter.objects.filter(status__in=OVER, status_changed_at__lt=before)
    keys = list(over.order_by("status_changed_at").values_list("pk", flat=True)[: writing.BATCH])
    letters = writing.locked(over.filter(pk__in=keys))  # looked at again, now locked
    gone: dict[int, int] = {}
    for letter in letters:
        gone[letter.group_id] = gone.get(letter.group_id, 0) - 1
    DeadLetter.objects.filter(pk__in=[letter.pk for letter in letters]).delete()
    writing.count_in_groups(gone, {})
    return len(letters)
