"""Changes to channels. Addresses hold passwords: they are sealed, and shown without them."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from apps.alerts import transports
from apps.alerts.models import Channel, Notification
from apps.alerts.rules.bounds import check_severities
from apps.alerts.services import sending, telling
from apps.alerts.services.alert_rules import check_reach
from apps.audit import services as audit
from apps.core import clock
from apps.core.actor import Actor
from apps.core.db import check_version, get_visible, swap
from apps.core.errors import Conflict, RuleBroken
from apps.core.sealing import seal
from apps.fleet.models import NAME, SLUG

LONGEST_ADDRESS = 1000


@transaction.atomic
def create_channel(
    name: str, *, kind: str, address: str, settings: Mapping[str, Any], actor: Actor
) -> Channel:
    """Add a channel to the actor's environment.

    `settings` may hold severities, wants_switches, wants_endings, wants_ends and enabled.

    Raises:
        RuleBroken: no name, or an address that nothing can be sent to.
        Conflict: there is one of that name.
        Forbidden: the actor is bound to one service.
    """
    check_reach(actor)
    if not SLUG.fullmatch(name):
        raise RuleBroken(str(NAME.message), errors={"name": [str(NAME.message)]})
    check_severities(settings.get("severities", []))
    addressed = _addressed(kind, address)
    try:
        with transaction.atomic():
            channel = Channel.objects.create(
                environment_id=actor.environment_id, name=name, kind=kind, **addressed, **settings
            )
    except IntegrityError as error:
        text = _("There is already one called %(slug)s.") % {"slug": name}
        raise Conflict(text, errors={"name": [text]}, code="exists") from error
    _tell("channel.created", channel, actor)
    return channel


@transaction.atomic
def update_channel(
    channel_id: int, *, version: int | None, changes: Mapping[str, Any], actor: Actor
) -> Channel:
    """Change what a channel wants, whether it is enabled, or its address.

    Raises:
        NotFound, Stale, Forbidden.
        RuleBroken: an address that nothing can be sent to.
    """
    channel = _channel(channel_id, actor)
    values = dict(changes)
    check_severities(values.get("severities", []))
    if address := values.pop("address", ""):
        values |= _addressed(channel.kind, address)
    if values.get("enabled"):
        values["disabled_reason"] = ""
    before = channel.as_audited()
    swap(channel, version=version, **values)
    _tell("channel.updated", channel, actor, before)
    return channel


@transaction.atomic
def delete_channel(channel_id: int, *, version: int | None, actor: Actor) -> None:
    """Remove a channel and its delivery log.

    Raises:
        NotFound, Stale, Forbidden.
    """
    channel = _channel(channel_id, actor)
    before = channel.as_audited()
    swap(channel, version=version)
    Channel.objects.filter(pk=channel.pk).delete()
    audit.record(
        "channel.deleted",
        channel,
        actor=actor,
        environment_id=channel.environment_id,
        before=before,
    )


def try_channel(
    channel_id: int, *, version: int | None = None, note: str = "", actor: Actor
) -> Notification:
    """Send a test message now and say what happened: `status` and `log` of what is returned.

    Takes as long as one attempt may; the message is in the delivery log.

    Raises:
        NotFound, Stale, Forbidden.
    """
    row = _write_test(channel_id, version, note, actor)
    claimed = sending.claim(row)
    if claimed is not None:
        receipt = transports.carry(claimed.kind, claimed.address, claimed.message)
        sending.settle(claimed, receipt)
    row.refresh_from_db()
    return row


@transaction.atomic
def _write_test(channel_id: int, version: int | None, note: str, actor: Actor) -> Notification:
    channel = _channel(channel_id, actor)
    check_version(channel, version)
    now = clock.now()
    title = _("Test from Holdfast, environment %(where)s") % {"where": channel.environment.slug}
    body = _("%(who)s tried the channel %(channel)s. Nothing is wrong.") % {
        "who": actor.label,
        "channel": channel.name,
    }
    key = f"test {now.isoformat()}"
    document = telling.envelope(
        channel.environment,
        "test",
        status="info",
        group=key,
        title=title,
        labels={"environment": channel.environment.slug},
        event={"action": "channel.tested", "actor": {"kind": actor.kind, "label": actor.label}},
    )
    row = Notification.objects.create(
        environment=channel.environment,
        channel=channel,
        about=Notification.About.TEST,
        key=key,
        title=title[:300],
        body=f"{body}\n{note}".strip(),
        document={**document, "receiver": channel.name},
        due_at=now,
        created_at=now,
    )
    _tell("channel.tested", channel, actor)
    return row


def _channel(channel_id: int, actor: Actor) -> Channel:
    rows = Channel.objects.select_related("environment")
    channel = get_visible(rows, actor=actor, pk=channel_id)
    check_reach(actor)
    return channel


def _addressed(kind: str, address: str) -> dict[str, str]:
    """The columns of an address; raises RuleBroken, which never repeats it."""
    address = address.strip()
    try:
        if not 0 < len(address) <= LONGEST_ADDRESS or not address.isprintable():
            raise transports.Unusable(_("up to 1,000 printable characters"))
        transports.check(kind, address)
        shown = transports.shown(kind, address)
    except ValueError as error:
        why = str(error) if isinstance(error, transports.Unusable) else ""
        text = _("Nothing can be sent to this address. It must be %(what)s.") % {
            "what": why or _("a URL")
        }
        raise RuleBroken(text, errors={"address": [text]}) from None
    return {"sealed_address": seal(address), "shown_address": shown[:200]}


def _tell(
    action: str, channel: Channel, actor: Actor, before: dict[str, Any] | None = None
) -> None:
    audit.record(
        action,
        channel,
        actor=actor,
        environment_id=channel.environment_id,
        before=before,
        after=channel.as_audited(),
    )
