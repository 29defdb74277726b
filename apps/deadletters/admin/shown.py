"""How statuses look wherever they are shown, and long text."""

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

LETTER_COLOURS = {
    "new": "danger",
    "acknowledged": "warning",
    "redrive_pending": "info",
    "redriven": "info",
    "resolved": "success",
    "refailed": "danger",
    "quarantined": "danger",
    "discarded": "info",
}
REDRIVE_COLOURS = {
    "running": "info",
    "paused": "warning",
    "cancelled": "warning",
    "done": "success",
}
LONGEST = 65_536  # characters of one text on a page


def verbatim(text: str) -> SafeString | str:
    """Text exactly as it is, never as markup; of a very long one the beginning."""
    if not text:
        return "–"
    if len(text) <= LONGEST:
        return format_html('<pre class="hf-verbatim">{}</pre>', text)
    more = _("… %(count)d characters more") % {"count": len(text) - LONGEST}
    return format_html('<pre class="hf-verbatim">{}</pre><p>{}</p>', text[:LONGEST], more)
