"""The base of every admin page: look at everything, change through the services."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.admin.filters import FieldListFilter, RelatedFieldListFilter
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.utils import display_for_label

from apps.core.actor import Actor
from apps.core.changes import NOTHING_TO_SEE, Review, review_of, show_newer
from apps.core.changes import Change as Change  # exported again, for all pages
from apps.core.changes import GuardedForm as GuardedForm
from apps.core.db import Versioned, visible_to
from apps.core.errors import DomainError, Refused, Stale
from apps.core.forms import add_to_form, places_in, places_of
from apps.core.returns import asked_back

SECRETS = frozenset({"password", "verifier"})  # comparisons would tell them letter by letter
# What an address may ask of a column. Not patterns, which SQLite runs in our own process.
LOOKUPS = frozenset({"exact", "in", "isnull", "gt", "gte", "lt", "lte", "year", "month", "day"})
_EVERY_LOOKUP = frozenset[str]().union(
    *(
        field().get_lookups()
        for field in (models.CharField, models.IntegerField, models.DateTimeField, models.JSONField)
    )
)
LONGEST_SEARCH = 200  # characters; each word of it is a comparison with every searched column

M = TypeVar("M", bound=models.Model)
C = TypeVar("C", bound=Callable[..., Any])
ActorOf = Callable[[HttpRequest, int | None], Actor]

_actor_of: ActorOf | None = None


def use_actors(find: ActorOf) -> None:
    """Let `find(request, environment_id)` tell who acts; given by the app that owns people.

    With None as the environment: everything the person sees, for reading only.
    """
    global _actor_of
    _actor_of = find


def actor_of(request: HttpRequest, environment_id: int | None = None) -> Actor:
    """The person behind an admin request, narrowed to one environment where one is given."""
    if _actor_of is None:
        raise RuntimeError("core.admin.use_actors was never called")
    return _actor_of(request, environment_id)


def column(
    title: str | Promise, *, badge: Mapping[str, str] | bool = False, order: str | None = None
) -> Callable[[C], C]:
    """A computed column of a list.

    With `badge` its text is a badge; a mapping gives colours (danger, warning, success, info) to
    values, and the method then returns `(value, text)`. `order` is the field it sorts by.
    """
    label = badge if isinstance(badge, bool) else dict(badge)
    described = display(description=title, label=label or None, ordering=order)

    def decorate(method: C) -> C:
        @wraps(method)
        def drawn(*args: Any) -> Any:
            value = method(*args)
            return Badge(value, label) if isinstance(label, dict) else value

        return cast("C", described(drawn))

    return decorate


class Badge(tuple[str, str]):
    """`(value, text)`, drawn in a list by the theme and on an object's page by itself."""

    def __new__(cls, pair: tuple[str, str], colours: dict[str, str]) -> "Badge":
        badge = super().__new__(cls, pair)
        badge._colours = colours
        return badge

    _colours: dict[str, str]

    def __html__(self) -> str:
        return str(display_for_label(tuple(self), "–", self._colours))


class VisibleRelated(RelatedFieldListFilter):
    """A list's filter by a related row: it offers those the person sees."""

    def field_choices(
        self, field: Any, request: HttpRequest, model_admin: Any
    ) -> list[tuple[str, Any]]:
        rows = visible_to(field.remote_field.model._default_manager.all(), actor_of(request))
        return [(str(row.pk), str(row)) for row in rows]


FieldListFilter.register(lambda field: field.remote_field, VisibleRelated, take_priority=True)


class GuardedModelAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no stubs
    """No write but through `changes` (of one object) and `creations` (of a new one).

    Each is a page of its own under the object; Django's add, change and delete forms, inlines
    and `list_editable` stay closed, and its LogEntry gives way to the audit log.
    """

    changes: ClassVar[Mapping[str, Change]] = {}
    creations: ClassVar[Mapping[str, Change]] = {}
    change_form_template = "console/object.html"
    change_list_template = "console/list.html"
    list_per_page = 50
    show_full_result_count = False
    actions: Sequence[Any] | None = None

    # -- what may be seen ------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows: models.QuerySet[Any] = super().get_queryset(request)
        return visible_to(rows, actor_of(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        is_closed = not (SECRETS | _EVERY_LOOKUP - LOOKUPS).isdisjoint(lookup.split("__"))
        return not is_closed and bool(super().lookup_allowed(lookup, value, request))

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Nothing is found by what no column can hold, or too much of it to be asked for."""
        if "\0" in search_term or len(search_term) > LONGEST_SEARCH:
            return queryset.none(), False
        found: tuple[models.QuerySet[Any], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def environment_of(self, row: Any) -> int | None:
        """The environment a change of `row` is about; None for the system's own things."""
        return getattr(row, "environment_id", None)

    # -- pages -----------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        new = [self._url(f"{name}/", self.creation_page, name) for name in self.creations]
        own = [
            self._url(f"<path:object_id>/{name}/", self.change_page, name) for name in self.changes
        ]
        return [*new, *own, *super().get_urls()]

    def _url(self, pattern: str, page: Callable[..., HttpResponse], name: str) -> URLPattern:
        view = self.admin_site.admin_view(partial(page, name=name))
        name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        return path(pattern, cast("Callable[..., HttpResponse]", view), name=name)

    def _address(self, name: str, *of: Any) -> str:
        """Where a page of this table is, or of the object whose key is given."""
        options = self.opts
        return reverse(f"admin:{options.app_label}_{options.model_name}_{name}", args=of)

    def change_page(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """GET and POST of one change of one object."""
        row = self.get_object(request, object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[no-any-return]
        return self._page(request, self.changes[name], row)

    def creation_page(self, request: HttpRequest, name: str) -> HttpResponse:
        """GET and POST of the page that makes something new."""
        change = self.creations[name]
        if not self.may_somewhere(request, change.scope):
            raise PermissionDenied(change.scope)
        return self._page(request, change, None)

    def _page(self, request: HttpRequest, change: Change, row: Any) -> HttpResponse:
        actor = actor_of(request, self.environment_of(row) if row is not None else None)
        if row is not None and not actor.may(change.scope):
            raise Refused(change.scope, self.environment_of(row))
        form, review = self._form(request, change, row), NOTHING_TO_SEE
        if request.method == "POST" and form.is_valid():
            try:
                done, review = self._attempt(request, change, row, actor, form)
            except DomainError as error:
                add_to_form(form, error)
                row = self._newest(change, form, row, error)
            else:
                if done is not None:
                    return done
        return self._render(request, change, row, actor, form, review)

    def _attempt(
        self, request: HttpRequest, change: Change, row: Any, actor: Actor, form: GuardedForm
    ) -> tuple[HttpResponse | None, Review]:
        """The answer to a change that was made; None while its dangers have not been seen."""
        values = {key: value for key, value in form.cleaned_data.items() if key != "version"}
        version = form.cleaned_data.get("version")
        acting = actor if row is not None else self._narrowed(request, change, values)
        review = review_of(change, row, actor=acting, version=version, values=values)
        if review.is_due(request.POST):
            return None, review
        if row is not None:
            result = change.apply(row, actor=acting, version=version, values=values)
        else:
            result = change.apply(actor=acting, values=values)
        return self._done(request, change, row, result), review

    def _newest(self, change: Change, form: GuardedForm, row: Any, error: DomainError) -> Any:
        """After a refusal for being stale the newer state is shown, and decided on next."""
        if row is None or not isinstance(error, Stale) or error.row is None:
            return row
        data = form.data.copy()  # type: ignore[attr-defined]  # a QueryDict
        data["version"] = str(error.row.version)
        form.data = data
        newest = type(row)._default_manager.get(pk=row.pk)
        show_newer(form, change.initial(newest))
        return newest

    def _done(self, request: HttpRequest, change: Change, row: Any, result: Any) -> HttpResponse:
        if change.reveal:
            context = {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": change.title,
                "result": result,
                "address": request.build_absolute_uri("/").rstrip("/"),
                "back": self._back(None),
            }
            return TemplateResponse(request, change.reveal, context)
        messages.success(request, str(change.done) % {"object": result or row})
        shown = None if change.removes else result if row is None else row
        return HttpResponseRedirect(asked_back(request) or self._back(shown))

    @staticmethod
    def _narrowed(request: HttpRequest, change: Change, values: Mapping[str, Any]) -> Actor:
        """Who makes something new, in the environment it is made in."""
        environment = values.get("environment")
        environment_id = environment.pk if environment is not None else None
        actor = actor_of(request, environment_id)
        if not actor.may(change.scope):
            raise Refused(change.scope, environment_id)
        return actor

    def _form(self, request: HttpRequest, change: Change, row: Any) -> GuardedForm:
        initial = dict(change.initial(row)) if row is not None else {}
        initial["version"] = getattr(row, "version", None)
        if row is None:
            initial |= places_in(request.GET, change.form)
        form = change.form(request.POST if request.method == "POST" else None, initial=initial)
        form.fields["version"].required = isinstance(row, Versioned)  # or it would be overwritten
        for field in form.fields.values():
            if isinstance(field, forms.ModelChoiceField) and field.queryset is not None:
                field.queryset = visible_to(field.queryset, actor_of(request))
                choices = list(field.queryset[:2]) if field.required else []
                if len(choices) == 1:  # nothing to choose
                    field.initial = choices[0].pk
        form.adapt_to(places_of(form))
        return form

    def _back(self, row: Any) -> str:
        if isinstance(row, self.model) and row.pk:
            return self._address("change", row.pk)
        return self._address("changelist")

    def _render(
        self,
        request: HttpRequest,
        change: Change,
        row: Any,
        actor: Actor,
        form: GuardedForm,
        review: Review,
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": change.title,
            "change": change,
            "row": row,
            "object": row,  # the theme's breadcrumbs
            "form": form,
            "review": review,
            "facts": _facts(change, row, actor, form),
            "back": asked_back(request) or self._back(row),
        }
        status = 200 if request.method == "GET" else 422
        return TemplateResponse(request, "console/change.html", context, status=status)

    # -- the object and list pages ---------------------------------------------------------------
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        offered = self._offered(request, object_id) if object_id else []
        context = {"offered": offered, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        if any("\0" in text for values in request.GET.lists() for text in values[1]):
            raise Http404  # no column can hold it, and PostgreSQL refuses to be asked
        context = {
            "offered": [
                (self._address(name), change)
                for name, change in self.creations.items()
                if self.may_somewhere(request, change.scope)
            ],
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def _offered(self, request: HttpRequest, object_id: str) -> list[tuple[str, Change]]:
        row = self.get_object(request, object_id)
        if row is None:
            return []
        actor = actor_of(request, self.environment_of(row))
        return [
            (self._address(name, row.pk), change)
            for name, change in self.changes.items()
            if actor.may(change.scope) and change.offered(row)
        ]

    @staticmethod
    def may_somewhere(request: HttpRequest, scope: str) -> bool:
        """Whether the person has `scope` in any environment they see."""
        everywhere = actor_of(request)
        return everywhere.may(scope) or any(
            actor_of(request, environment_id).may(scope)
            for environment_id in everywhere.environment_ids
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The object's history is what the audit log says of it."""
        about = {"object_type": self.opts.model_name, "object_id": object_id}
        return HttpResponseRedirect(f"{reverse('admin:audit_entry_changelist')}?{urlencode(about)}")

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """The audit log replaces Django's LogEntry."""

    log_change = log_addition


def _facts(change: Change, row: Any, actor: Actor, form: forms.Form) -> list[tuple[Any, Any]]:
    if row is None:
        return change.preview(actor, places_of(form)) if change.preview else []
    return change.facts(row, actor) if change.facts else []
