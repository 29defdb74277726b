"""Which check may be another's parent: chains are short, and lead nowhere twice."""

from django.utils.translation import gettext as _

from apps.health.models import Check
from apps.health.rules import standing


def error(check: Check, parent: Check) -> str:
    """Why `parent` cannot be the parent of `check`; empty: it can."""
    if parent.environment_id != check.environment_id:
        return _("There is no such check in this environment.")
    if check.pk in (above := _above(parent)):
        return _("It would be its own parent.") if len(above) == 1 else _("That leads in a circle.")
    if len(_above(parent)) + _depth_below(check) > standing.DEEPEST:
        return _("There may be %d checks above one, not more.") % standing.DEEPEST
    return ""


def _above(check: Check) -> list[int]:
    """It, and what is above it, as far as matters."""
    found, each = [check.pk], check
    while each.parent is not None and len(found) <= standing.DEEPEST:
        each = each.parent
        found.append(each.pk)
    return found


def _depth_below(check: Check) -> int:
    """How many levels of checks there are below it."""
    depth, level = 0, [check.pk]
    while level and depth <= standing.DEEPEST:
        level = list(Check.objects.filter(parent__in=level).values_list("pk", flat=True))
        depth += bool(level)
    return depth
