"""Figures of the wall's first paint; the page's script then says them in the viewer's locale."""

from django import template

register = template.Library()

Figure = float | str | None  # the empty text is Django's word for "not there"


@register.filter
def rate(per_second: Figure) -> str:
    """Calls per second: `0.25`, `3.1`, `120`."""
    number = float(per_second or 0.0)
    if number == 0:
        return "0"
    return f"{number:.2f}" if number < 1 else f"{number:.1f}" if number < 10 else f"{number:.0f}"


@register.filter
def share(part: Figure) -> str:
    """A share as a percentage: `0.4 %`, `31 %`; a dash where it is unknown."""
    if part is None or part == "":
        return "–"
    percent = float(part) * 100
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


@register.filter
def duration(seconds: Figure) -> str:
    """`85 ms`, `1.2 s`, `14 min`, `2.5 h`; a dash where it is unknown."""
    if seconds is None or seconds == "":
        return "–"
    number = float(seconds)
    if number < 1:
        return f"{number * 1000:.0f} ms"
    if number < 120:
        return f"{number:.1f} s"
    return f"{number / 60:.0f} min" if number < 7200 else f"{number / 3600:.1f} h"


@register.filter
def clock_utc(instant: str | None) -> str:
    """`14:03:07 UTC` of an RFC 3339 instant in UTC."""
    return f"{instant[11:19]} UTC" if instant else ""
