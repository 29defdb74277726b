"""What a page of the console changes, and what its author must have seen before it does."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from apps.core.actor import Actor


class Danger(NamedTuple):
    """What is dangerous about a change that is allowed, where, and what would be better."""

    detail: str
    where: str
    remedy: str


class GuardedForm(forms.Form):
    """A form whose change is made by a service; `version` is what the person looked at."""

    version = forms.IntegerField(
        widget=forms.HiddenInput,
        required=False,
        error_messages={"required": _("This page is incomplete. Open it again.")},
    )

    def adapt_to(self, places: Mapping[str, Any]) -> None:
        """Show what depends on the rows chosen so far, of those the person sees, by field."""


@dataclass(frozen=True)
class Change:
    """A page that changes one object through a service.

    `apply(object, actor=…, version=…, values=…)` calls the service. A `DomainError` it raises
    becomes an error on the form and nothing is written. `facts(object, actor)` may return
    `(label, value)` rows shown above the form: what the change will hit. Where something new is
    made, `preview(actor, places)` says it instead, of the rows chosen so far by field (None: not
    chosen), and is asked again whenever one is chosen. With `reveal`, a template, success answers
    with that page, which has the result as `result`, instead of a redirect: for what is shown once.

    `review(object, actor=…, version=…, values=…)` may name dangers of what is about to be done, the
    object being None where something new is made: it is done once the person has seen them.
    """

    title: str | Promise
    scope: str
    form: type[GuardedForm]
    apply: Callable[..., Any]
    submit: str | Promise = ""
    done: str | Promise = ""
    dangerous: bool = False
    icon: str = "edit"
    offered: Callable[[Any], bool] = lambda row: True
    initial: Callable[[Any], Mapping[str, Any]] = lambda row: {}
    facts: Callable[[Any, Actor], list[tuple[Any, Any]]] | None = None
    preview: Callable[[Actor, Mapping[str, Any]], list[tuple[Any, Any]]] | None = None
    review: Callable[..., Sequence[Danger]] | None = None
    intro: str | Promise = ""
    removes: bool = False  # the object is gone afterwards
    reveal: str = ""

    @property
    def has_preview(self) -> bool:
        """For templates, which would call `preview` itself."""
        return self.preview is not None


@dataclass(frozen=True)
class Review:
    """The dangers of a change, to be seen before it is made."""

    dangers: Sequence[Danger] = ()

    @property
    def seen_as(self) -> str:
        """What the page sends along to say that exactly these have been seen."""
        return hashlib.sha256(repr(list(self.dangers)).encode()).hexdigest()

    def is_due(self, sent: Mapping[str, str]) -> bool:
        return bool(self.dangers) and sent.get("seen") != self.seen_as


NOTHING_TO_SEE = Review()


def review_of(
    change: Change, row: Any, *, actor: Actor, version: int | None, values: Mapping[str, Any]
) -> Review:
    """What must be seen before `change` is made with these values; raises DomainError."""
    if change.review is None:
        return NOTHING_TO_SEE
    return Review(change.review(row, actor=actor, version=version, values=dict(values)))


def show_newer(form: forms.Form, newer: Mapping[str, Any]) -> None:
    """Say beside each field what it is now, where the form says something else."""
    said = dict(form.cleaned_data)
    for name in sorted(newer.keys() & said.keys()):
        text = form.fields[name].prepare_value(newer[name])
        if _cleaned(form.fields[name], text) != said[name]:
            shown = _("empty") if text in (None, "") else text
            form.add_error(name, _("It is %(value)s now.") % {"value": shown})


def _cleaned(field: forms.Field, text: Any) -> Any:
    """What a field makes of a value that is shown in it."""
    try:
        return field.clean("" if text is None else str(text))
    except forms.ValidationError:
        return text
