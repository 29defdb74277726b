"""Logging in to the console, and one's own password."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from unfold.forms import AdminOwnPasswordChangeForm, AuthenticationForm

from apps.accounts import selectors, services
from apps.core.admin import actor_of


class LoginForm(AuthenticationForm):  # type: ignore[misc]  # unfold ships no stubs
    """The theme's, which stops listening to whoever guesses."""

    def clean(self) -> Any:
        name, address = self.cleaned_data.get("username", ""), _address(self.request)
        if not selectors.may_log_in(name, address=address):
            raise forms.ValidationError(
                _("Too many logins failed. Try again in %(minutes)d minutes.")
                % {"minutes": selectors.FAILURES_COUNT_FOR.total_seconds() // 60},
                code="too_many_failures",
            )
        try:
            values = super().clean()
        except forms.ValidationError:
            services.note_failed_login(name, address=address)
            raise
        services.forget_failed_logins(name, address=address)
        return values


def _address(request: Any) -> str:
    return str(request.META.get("REMOTE_ADDR", "")) if request is not None else ""


class OwnPassword(PasswordChangeView):
    """Django's page, with the change made by the service: audited, and other sessions end."""

    form_class = AdminOwnPasswordChangeForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_context_data(self, **values: Any) -> dict[str, Any]:
        return {**super().get_context_data(**values), **admin.site.each_context(self.request)}

    def form_valid(self, form: Any) -> HttpResponse:
        person = services.set_password(
            form.user.pk, password=form.cleaned_data["new_password1"], actor=actor_of(self.request)
        )
        update_session_auth_hash(self.request, person)  # this session goes on
        return HttpResponseRedirect(str(self.get_success_url()))
