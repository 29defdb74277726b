"""What can go wrong in a change, in words its author can act on.

Services raise these; `core.problems` turns them into RFC 9457 answers, the admin into messages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext_lazy as _


class DomainError(Exception):
    """A refusal with a stable `code`, an HTTP `status` and a `detail` for people."""

    code = "error"
    status = 400
    title = _("The request was refused")

    def __init__(
        self, detail: str, *, errors: Mapping[str, Sequence[str]] | None = None, code: str = ""
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = {field: list(texts) for field, texts in (errors or {}).items()}
        self.code = code or type(self).code


class RuleBroken(DomainError):
    """The values given break a rule; `errors` names the fields."""

    code = "invalid"
    title = _("The values break a rule")


class Forbidden(DomainError):
    """The actor sees the thing but may not do this to it."""

    code = "forbidden"
    status = 403
    title = _("Not allowed")


class Refused(PermissionDenied):
    """Forbidden, of a page of the console; in no environment where it is about none."""

    def __init__(self, scope: str, environment_id: int | None) -> None:
        super().__init__(scope)
        self.environment_id = environment_id


class NotFound(DomainError):
    """There is no such thing, or the actor may not know that there is."""

    code = "not_found"
    status = 404
    title = _("Not found")


class Conflict(DomainError):
    """The thing is in a state that does not allow this (already ended, already exists)."""

    code = "conflict"
    status = 409
    title = _("Conflicts with the present state")


class Stale(DomainError):
    """Somebody changed the row after the version the caller knows; nothing was written."""

    code = "stale"
    status = 412
    title = _("Changed by somebody else in the meantime")

    def __init__(self, detail: str, *, row: Any = None) -> None:
        super().__init__(detail)
        self.row = row  # as it was when the swap failed, for callers that show the newer state


class TooLarge(DomainError):
    """The body is over the limit its route documents."""

    code = "too_large"
    status = 413
    title = _("Too large")


class PreconditionRequired(DomainError):
    """A change of an existing thing must say which version it was based on."""

    code = "precondition_required"
    status = 428
    title = _("If-Match is required")
