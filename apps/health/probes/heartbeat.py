"""What it means that a heartbeat is due: nobody pinged in time. There is nothing to ask."""

from django.utils.translation import gettext as _

from apps.health.probes.outcomes import Outcome, Refused
from apps.health.targets import Target, option


async def probe(target: Target) -> Outcome:
    """Say what was missed; a ping would have moved the moment it is due at."""
    if target.has_started:
        longest = option(target, "longest_seconds")
        raise Refused(_("its job began, and did not end within %g s") % longest)
    raise Refused(_("no ping came in time"))
