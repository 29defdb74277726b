"""What a health score was lost to, in words: the share, and how many it was taken of."""

from collections.abc import Mapping
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.health.rules import score as rules

_WORDS: Mapping[str, Any] = {
    rules.AVAILABILITY: gettext_lazy("error rate %(share)s of %(samples)s calls"),
    rules.CHECKS: gettext_lazy("%(share)s of %(samples)s results of its checks failed"),
    rules.LATENCY: gettext_lazy("too slow: Apdex %(apdex)s of %(samples)s calls"),
    rules.SATURATION: gettext_lazy("no room for %(share)s of %(samples)s calls"),
    rules.BREAKER: gettext_lazy("breakers not closed on %(share)s of %(samples)s instances"),
    rules.DEAD_LETTERS: gettext_lazy("%(samples)s dead letters wait"),
}
_CAPPED = {
    rules.CAPS[rules.UNHEALTHY]: gettext_lazy("critical and down: %(most)d at most"),
    rules.CAPS[rules.DEGRADED]: gettext_lazy("critical and degraded: %(most)d at most"),
}


def lost_to(deduction: rules.Deduction) -> str:
    """Such as "payments-api: error rate 12 % of 4,310 calls"."""
    if deduction.kind == rules.SERVICE:
        figures = {"service": deduction.subject, "score": deduction.samples}
        return _("%(service)s scores %(score)d of 100") % figures
    if deduction.kind == rules.CAP:
        text = str(_CAPPED[deduction.samples]) % {"most": deduction.samples}
    else:
        text = str(_WORDS[deduction.kind]) % {
            "share": _percent(1 - deduction.share),
            "apdex": f"{deduction.share:.2f}",
            "samples": number_format(deduction.samples, use_l10n=True, force_grouping=True),
        }
    return f"{deduction.subject}: {text}" if deduction.subject else text


def _percent(share: float) -> str:
    return _("%(number)s %%") % {"number": f"{100 * share:.3g}"}
