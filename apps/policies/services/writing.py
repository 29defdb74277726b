"""The one way settings are written: rows, one revision, the rules over all levels, audit.

Nothing here opens a transaction; the public services do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from apps.audit import services as audit
from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import check_version, swap
from apps.core.errors import Conflict, Forbidden, NotFound, RuleBroken
from apps.fleet import services as fleet
from apps.fleet.models import Usage
from apps.policies import rules
from apps.policies.models import CONFIGS, Config, Scope
from apps.policies.rules import Place
from apps.publication import services as publication
from apps.publication.models import Fragment, Part, Revision
from apps.publication.selectors import newest_number
from apps.publication.services import Piece

ABSENT = 0  # as a version: there must be no row yet


@dataclass(frozen=True)
class Edit:
    """What is to become of one row: `values` written over it (None inherits), or the row removed.

    With `version`, only if the row is still at it.
    """

    pattern: str
    scope: Scope
    values: Mapping[str, Any] | None  # None: the row is removed
    version: int | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Rows are locked in this order by everybody, so that nobody waits in a circle."""
        dependency, service = self.scope.dependency, self.scope.service
        place = list(CONFIGS).index(self.pattern)
        return (place, dependency.pk if dependency else 0, service.pk if service else 0)

    @property
    def place(self) -> Place:
        return Place(**self.scope.slugs, pattern=self.pattern)


@dataclass(frozen=True)
class Written:
    """One row as it was written, in this transaction."""

    action: str  # for the audit log; empty: nothing was different
    row: Config
    before: dict[str, Any] | None = None
    changed: frozenset[str] = frozenset()

    @property
    def is_removed(self) -> bool:
        return self.action == "config.cleared"

    @property
    def values(self) -> dict[str, Any]:
        """What is set in its scope now."""
        return {} if self.is_removed else self.row.values

    @property
    def as_audited(self) -> audit.Change:
        after = None if self.is_removed else self.row.as_audited()
        return audit.Change(self.action, self.row, self.before, after)


def write(
    edits: Sequence[Edit], *, actor: Actor, reason: str, restores: int | None = None
) -> tuple[list[Written], Revision | None]:
    """Write the edits as one revision; without any difference there is none.

    Raises:
        RuleBroken: a value is not allowed, or the levels together contradict each other.
        Stale, NotFound, Conflict: the row is not as an edit's `version` says.
        Forbidden: the actor is bound to another service.
    """
    for edit in edits:
        check_scope(edit.scope, actor)
    written = [_write_row(edit) for edit in sorted(edits, key=lambda edit: edit.order)]
    changed = [each for each in written if each.action]
    if not changed:
        return written, None
    pieces = [_piece(each) for each in changed]
    for each in changed:
        pieces += declared_use(each.row.holds_in)
    judged_at = newest_number(actor.environment_id)
    _check_policies(actor.environment_id, changed)
    revision = publication.publish(
        actor.environment_id, pieces, actor=actor, reason=reason, restores=restores
    )
    if revision.number != judged_at + 1:
        # Judged again while the environment's head is held: two changes that are each right
        # alone, and wrong together, cannot pass each other.
        _check_policies(actor.environment_id, changed)
    _note_origins(changed, revision)
    audit.record_many(
        [each.as_audited for each in changed],
        actor=actor,
        environment_id=actor.environment_id,
        reason=reason,
        revision=revision.number,
    )
    return written, revision


def check_scope(scope: Scope, actor: Actor) -> None:
    """Raises RuleBroken for a scope that is none of the actor's environment's, and Forbidden
    where a token bound to one service would reach others.
    """
    errors: dict[str, list[str]] = {}
    dependency, service = scope.dependency, scope.service
    if dependency is not None and dependency.environment_id != actor.environment_id:
        errors["dependency"] = [_("There is no such dependency in this environment.")]
    if service is not None and service.environment_id != actor.environment_id:
        errors["service"] = [_("There is no such service in this environment.")]
    if service is not None and dependency is None:
        errors["dependency"] = [_("Name the dependency whose calls by this service it is about.")]
    if errors or scope.environment_id != actor.environment_id:
        raise RuleBroken(_("There is no such scope in this environment."), errors=errors)
    if actor.service_id is not None and (service is None or service.pk != actor.service_id):
        raise Forbidden(
            _("This token is bound to one service and cannot change what reaches others."),
            code="service_bound",
        )


def declared_use(scope: Scope) -> list[Piece]:
    """That the scope's service calls its dependency, as pieces to publish: none if it is known."""
    if scope.service is None or scope.dependency is None:
        return []
    if not fleet.link(scope.service, scope.dependency, source=Usage.Source.DECLARED):
        return []
    return [publication.use_piece(scope.service, scope.dependency)]


def _write_row(edit: Edit) -> Written:
    model = CONFIGS[edit.pattern]
    values = None if edit.values is None else rules.clean_values(edit.pattern, edit.values)
    row = model.objects.filter(**edit.scope.lookup).first()
    _check_version(row, edit)
    if row is None:
        return _create(edit, values or {})
    row.service, row.dependency = edit.scope.service, edit.scope.dependency  # no query for slugs
    before = row.as_audited()
    if values is None:
        swap(row, version=edit.version)  # nobody changes it between the look and the removal
        model.objects.filter(pk=row.pk).delete()
        return Written("config.cleared", row, before)
    changes = {
        key: value for key, value in values.items() if not rules.is_same(value, getattr(row, key))
    }
    if not changes:
        return Written("", row)
    swap(row, version=edit.version, **changes)
    return Written("config.changed", row, before, frozenset(changes))


def _check_version(row: Config | None, edit: Edit) -> None:
    if row is None:
        if edit.version or edit.values is None:
            raise NotFound(_("There is no such thing in this environment."))
    elif edit.version == ABSENT:
        raise _taken()
    else:
        check_version(row, edit.version)


def _create(edit: Edit, values: Mapping[str, Any]) -> Written:
    present = {key: value for key, value in values.items() if value is not None}
    if not present:
        text = _("Set at least one value.")
        raise RuleBroken(text, errors={"settings": [text]})
    try:
        with transaction.atomic():
            row = CONFIGS[edit.pattern].objects.create(**edit.scope.lookup, **present)
    except IntegrityError as error:  # somebody was faster
        raise _taken() from error
    return Written("config.created", row, None, frozenset(present))


def _taken() -> Conflict:
    return Conflict(
        _("This pattern has settings in this scope already: change those."), code="exists"
    )


def _piece(written: Written) -> Piece:
    return Piece(
        Part.SETTING,
        written.values or None,
        **written.row.holds_in.slugs,
        name=written.row.pattern,
    )


def _note_origins(changed: Iterable[Written], revision: Revision) -> None:
    """Remember, for each value this change set, that it came with `revision`."""
    mine = {
        "revision": revision.number,
        "by": revision.actor_label,
        "at": clock.rfc3339(revision.at),
    }
    rows: dict[str, list[Config]] = {}
    for each in changed:
        if not each.is_removed:
            row = each.row
            row.origins = {
                key: mine if key in each.changed else row.origins[key] for key in row.values
            }
            rows.setdefault(row.pattern, []).append(row)
    for pattern, held in rows.items():
        CONFIGS[pattern].objects.bulk_update(held, ["origins"])


def _check_policies(environment_id: int, changed: Sequence[Written]) -> None:
    """The rules over several settings, for every calls the change has an effect on.

    What is published counts, with the change over it.
    """
    scopes = [each.row.holds_in for each in changed]
    pieces = Fragment.objects.current().filter(
        environment_id=environment_id, part=Part.SETTING, body__isnull=False
    )
    if all(scope.dependency is not None for scope in scopes):
        names = {scope.slugs["dependency"] for scope in scopes}
        pieces = pieces.filter(Q(dependency="") | Q(dependency__in=names))
    bodies = {(piece.service, piece.dependency, piece.name): piece.body or {} for piece in pieces}
    for each in changed:
        place = each.row.holds_in.slugs
        bodies[place["service"], place["dependency"], each.row.pattern] = each.values
    rules.check_policies(
        (rules.SettingsPiece(*where, body) for where, body in bodies.items() if body),
        edited=frozenset(each.row.pattern for each in changed),
    )
