"""People, their roles, and tokens in the console."""

from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts import rules, services
from apps.accounts.models import ApiToken, Membership, User
from apps.core import clock
from apps.core.actor import SYSTEM_SCOPE, Actor
from apps.core.admin import Change, GuardedForm, GuardedModelAdmin, actor_of, column
from apps.core.forms import NamedChoice, environment_field
from apps.fleet.models import Environment, Service

admin.site.unregister(Group)  # roles are memberships; Django's groups grant nothing here


class PasswordForm(GuardedForm):
    password = forms.CharField(
        label=gettext_lazy("Password"),
        max_length=200,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=gettext_lazy("12 characters or more."),
    )


class NewUserForm(PasswordForm):
    username = forms.CharField(label=gettext_lazy("User name"), max_length=150)
    is_superuser = forms.BooleanField(
        label=gettext_lazy("Keeps the system: people, environments, every role everywhere"),
        required=False,
    )
    field_order = ("username",)


class RoleForm(GuardedForm):
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=Membership.Role.choices, widget=forms.RadioSelect
    )


class GrantForm(RoleForm):
    user = forms.ModelChoiceField(
        label=gettext_lazy("Person"), queryset=User.objects.order_by("username")
    )
    environment = environment_field(Environment.objects.all())
    field_order = ("user", "environment")


# For services, for screens and probes, then for scripts in place of people.
SCOPE_CHOICES = [
    (scope, format_lazy("{} – {}", scope, text))
    for scope, text in (
        ("policies:read", gettext_lazy("a service: get its policies and flags")),
        ("reports:write", gettext_lazy("a service: report how its calls go")),
        ("deadletters:write", gettext_lazy("a service: hand in what failed for good")),
        ("redrives:work", gettext_lazy("a service: try dead letters again that people redrive")),
        ("wall:read", gettext_lazy("a screen: show the wall")),
        ("health:read", gettext_lazy("a probe: what /health tells in detail")),
        ("metrics:read", gettext_lazy("Prometheus: scrape /metrics")),
        ("config:read", gettext_lazy("read settings, flags, checks, alerts and dead letters")),
        ("config:write", gettext_lazy("change settings, services, dependencies and checks")),
        ("flags:write", gettext_lazy("engage, extend and end flags")),
        ("overrides:write", gettext_lazy("force breakers open or closed")),
        ("redrives:write", gettext_lazy("redrive or discard dead letters")),
        ("alerts:write", gettext_lazy("rules, channels, silences and automatic actions")),
        ("markers:write", gettext_lazy("mark deployments and other moments")),
        ("audit:read", gettext_lazy("read the audit log")),
        ("tokens:write", gettext_lazy("make and revoke tokens")),
    )
]


class NewTokenForm(GuardedForm):
    environment = environment_field(Environment.objects.all())
    service = NamedChoice(
        label=gettext_lazy("Service"),
        queryset=Service.objects.all(),
        required=False,
        empty_label=gettext_lazy("any service of the environment"),
    )
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=120, help_text=gettext_lazy("What people see.")
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("May do"),
        choices=SCOPE_CHOICES,
        initial=rules.SERVICE_SCOPES,
        help_text=gettext_lazy(
            "A service needs policies:read and reports:write, and for dead letters "
            "deadletters:write and redrives:work; a screen that shows the wall wall:read alone."
        ),
        widget=forms.CheckboxSelectMultiple,
    )
    expires_in = forms.CharField(
        label=gettext_lazy("Ends after"),
        max_length=10,
        required=False,
        help_text=gettext_lazy("Such as 90d or 12h. Empty: until it is revoked."),
    )

    def clean_expires_in(self) -> datetime | None:
        text = self.cleaned_data["expires_in"]
        try:
            return clock.now() + rules.lifetime(text) if text else None
        except (ValueError, OverflowError) as error:
            raise forms.ValidationError(_("Write a time such as 90d, 12h or 30m.")) from error


class RevokeForm(GuardedForm):
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=500)


def _create_user(*, actor: Actor, values: dict[str, Any]) -> User:
    return services.create_user(values.pop("username"), actor=actor, **values)


def _set_password(user: User, *, actor: Actor, version: int | None, values: dict[str, Any]) -> User:
    return services.set_password(user.pk, password=values["password"], actor=actor)


def _activate(user: User, *, actor: Actor, version: int | None, values: dict[str, Any]) -> User:
    return services.set_active(user.pk, is_active=True, actor=actor)


def _deactivate(user: User, *, actor: Actor, version: int | None, values: dict[str, Any]) -> User:
    return services.set_active(user.pk, is_active=False, actor=actor)


def _grant(*, actor: Actor, values: dict[str, Any]) -> Membership:
    return services.grant_role(
        values["user"].pk,
        environment_id=values["environment"].pk,
        role=values["role"],
        actor=actor,
    )


def _change_role(
    row: Membership, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> Membership:
    return services.grant_role(
        row.user_id,
        environment_id=row.environment_id,
        role=values["role"],
        version=version,
        actor=actor,
    )


def _withdraw(
    row: Membership, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> None:
    services.withdraw_role(row.pk, version=version, actor=actor)


def _create_token(*, actor: Actor, values: dict[str, Any]) -> dict[str, Any]:
    """The token and its text, for the page that shows it once."""
    token, text = services.create_token(
        values["name"],
        scopes=values["scopes"],
        service=values["service"],
        expires_at=values["expires_in"],
        actor=actor,
    )
    return {"token": token, "text": text}


def _revoke(
    token: ApiToken, *, actor: Actor, version: int | None, values: dict[str, Any]
) -> ApiToken:
    return services.revoke_token(token.pk, version=version, reason=values["reason"], actor=actor)


class ForKeepers(GuardedModelAdmin):
    """Pages for those who keep the system."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_view_permission(request, obj)
        return allowed and bool(getattr(request.user, "is_superuser", False))


@admin.register(User)
class UserAdmin(ForKeepers):
    list_display = ("username", "state", "keeps_system", "last_login", "date_joined")
    list_filter = ("is_active", "is_superuser")
    search_fields = ("username",)
    ordering = ("username",)
    fields = ("username", "state", "keeps_system", "last_login", "date_joined")
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Add person"),
            scope=SYSTEM_SCOPE,
            form=NewUserForm,
            apply=_create_user,
            submit=gettext_lazy("Add"),
            done=gettext_lazy("%(object)s is there. Grant a role next."),
            icon="person_add",
        )
    }
    changes: ClassVar = {
        "password": Change(
            title=gettext_lazy("Set password"),
            scope=SYSTEM_SCOPE,
            form=PasswordForm,
            apply=_set_password,
            submit=gettext_lazy("Set password"),
            done=gettext_lazy("%(object)s has a new password; open sessions end."),
            icon="password",
        ),
        "deactivate": Change(
            title=gettext_lazy("Deactivate"),
            scope=SYSTEM_SCOPE,
            form=GuardedForm,
            apply=_deactivate,
            submit=gettext_lazy("Deactivate"),
            done=gettext_lazy("%(object)s cannot log in any more."),
            dangerous=True,
            icon="person_off",
            offered=lambda user: user.is_active,
        ),
        "activate": Change(
            title=gettext_lazy("Activate"),
            scope=SYSTEM_SCOPE,
            form=GuardedForm,
            apply=_activate,
            submit=gettext_lazy("Activate"),
            done=gettext_lazy("%(object)s can log in again."),
            icon="person",
            offered=lambda user: not user.is_active,
        ),
    }

    @column(gettext_lazy("State"), badge={"active": "success", "inactive": "danger"})
    def state(self, user: User) -> tuple[str, str]:
        return ("active", _("active")) if user.is_active else ("inactive", _("inactive"))

    @column(gettext_lazy("Keeps the system"), badge={"yes": "warning"})
    def keeps_system(self, user: User) -> tuple[str, str]:
        return ("yes", _("yes")) if user.is_superuser else ("no", _("no"))


@admin.register(Membership)
class MembershipAdmin(ForKeepers):
    list_display = ("user", "environment", "role_badge")
    list_filter = ("environment", "role")
    list_select_related = ("user", "environment")
    search_fields = ("user__username",)
    fields = ("user", "environment", "role", "version")
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Grant role"),
            scope=SYSTEM_SCOPE,
            form=GrantForm,
            apply=_grant,
            submit=gettext_lazy("Grant"),
            done=gettext_lazy("Granted: %(object)s."),
            icon="add_moderator",
        )
    }
    changes: ClassVar = {
        "role": Change(
            title=gettext_lazy("Change role"),
            scope=SYSTEM_SCOPE,
            form=RoleForm,
            apply=_change_role,
            submit=gettext_lazy("Change"),
            done=gettext_lazy("Changed: %(object)s."),
            initial=lambda row: {"role": row.role},
        ),
        "withdraw": Change(
            title=gettext_lazy("Withdraw role"),
            scope=SYSTEM_SCOPE,
            form=GuardedForm,
            apply=_withdraw,
            submit=gettext_lazy("Withdraw"),
            done=gettext_lazy("Withdrawn: %(object)s."),
            dangerous=True,
            icon="remove_moderator",
            removes=True,
        ),
    }

    @column(
        gettext_lazy("Role"),
        badge={"viewer": "info", "operator": "warning", "administrator": "danger"},
        order="role",
    )
    def role_badge(self, row: Membership) -> tuple[str, str]:
        return row.role, row.role


class LiveFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "live"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("live")), ("no", gettext_lazy("ended"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        live = ApiToken.objects.live(clock.now()).values("pk")
        if self.value() == "yes":
            return queryset.filter(pk__in=live)
        return queryset.exclude(pk__in=live) if self.value() == "no" else queryset


@admin.register(ApiToken)
class ApiTokenAdmin(GuardedModelAdmin):
    list_display = ("name", "state", "environment", "service", "selector", "ends", "last_used_at")
    list_filter = (LiveFilter, "environment")
    list_select_related = ("environment", "service")
    search_fields = ("name", "selector", "service__slug")
    ordering = ("-created_at",)
    fields = (
        *("name", "state", "environment", "service", "selector", "scopes", "created_by"),
        *("created_at", "expires_at", "revoked_at", "last_used_at", "version"),
    )
    readonly_fields = fields
    creations: ClassVar = {
        "new": Change(
            title=gettext_lazy("Make token"),
            scope="tokens:write",
            form=NewTokenForm,
            apply=_create_token,
            submit=gettext_lazy("Make token"),
            icon="key",
            reveal="accounts/token_made.html",
            intro=gettext_lazy("The token is shown once, on the next page."),
        )
    }
    changes: ClassVar = {
        "revoke": Change(
            title=gettext_lazy("Revoke"),
            scope="tokens:write",
            form=RevokeForm,
            apply=_revoke,
            submit=gettext_lazy("Revoke now"),
            done=gettext_lazy("%(object)s is revoked; it opens nothing within two seconds."),
            dangerous=True,
            icon="key_off",
            offered=lambda token: token.revoked_at is None,
        )
    }

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_view_permission(request, obj)
        return allowed and self.may_somewhere(request, "tokens:write")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Tokens of the environments in which the person may make them."""
        ids = actor_of(request).environment_ids
        mine = [each for each in ids if actor_of(request, each).may("tokens:write")]
        return super().get_queryset(request).filter(environment__in=mine)

    @column(
        gettext_lazy("State"),
        badge={"live": "success", "expired": "warning", "revoked": "danger"},
    )
    def state(self, token: ApiToken) -> tuple[str, str]:
        if token.revoked_at is not None:
            return "revoked", _("revoked")
        if token.expires_at is not None and token.expires_at <= clock.now():
            return "expired", _("expired")
        return "live", _("live")

    @column(gettext_lazy("Ends"), order="expires_at")
    def ends(self, token: ApiToken) -> str:
        return f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else _("never")
