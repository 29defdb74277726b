"""The report as it travels: its members, what they may be, and how it is read."""

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from django.utils.translation import gettext as _
from msgspec import Meta, Struct

from apps.core.errors import RuleBroken
from apps.telemetry import rules
from holdfast import histogram

MOST_EVENTS = 200
MOST_REFUSED = 50  # kept of a report; one wrong document may be refused in many places
MOST_DATA = 4096  # bytes of an event's data
MOST_LEVELS = 5  # of nesting in it
# A count of one report. Far more than a process can do, and so little that sums of them fit.
Count = Annotated[int, Meta(ge=0, lt=2**32)]
Number = Annotated[int, Meta(ge=0, lt=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=10**9)]
Share = Annotated[float, Meta(ge=0, le=10**6)]
Name = Annotated[str, Meta(min_length=1, max_length=80)]
Instant = Annotated[datetime, Meta(tz=True)]
State = Literal["closed", "half_open", "open"]
Latency = dict[str, Count]


# Of JSON, so in no circle: the garbage collector looks at none of the thousands that wait.
class Rejected(Struct, frozen=True, gc=False):
    open: Count = 0
    forced: Count = 0
    bulkhead: Count = 0
    rate_limit: Count = 0
    throttle: Count = 0
    budget: Count = 0
    degraded: Count = 0


class Recoveries(Struct, frozen=True, gc=False):
    attempted: Count = 0
    succeeded: Count = 0


class Fallbacks(Struct, frozen=True, gc=False):
    value: Count = 0
    function: Count = 0
    cached: Count = 0
    queue: Count = 0


class Override(Struct, frozen=True, gc=False):
    mode: str


class Breaker(Struct, frozen=True, gc=False):
    state: State
    since: Instant | None = None
    generation: Number = 0
    override: str | Override | None = None

    def is_as(self, other: "Breaker | None") -> bool:
        """Whether `other` says the same; `since` is counted anew for each report, and wobbles."""
        return (
            other is not None
            and self.generation == other.generation
            and self.state == other.state
            and self.override == other.override
        )

    @property
    def mode(self) -> str | None:
        """Mode of the override in force."""
        found = self.override.mode if isinstance(self.override, Override) else self.override
        return found[:20] if found else None


class Calls(Struct, frozen=True, gc=False):
    """What was counted of one dependency since the last report."""

    calls: Count = 0
    successes: Count = 0
    failures: Count = 0
    timeouts: Count = 0
    slow: Count = 0
    cancelled: Count = 0
    rejected: Rejected = Rejected()
    retries: Count = 0
    recoveries: Recoveries = Recoveries()
    fallbacks: Fallbacks = Fallbacks()
    latency: Latency = {}
    breaker: Breaker | None = None
    in_flight: Count = 0

    @staticmethod
    def add_up(counts: rules.Counts, many: Sequence["Calls"]) -> None:
        """Add what many reports say of one dependency."""
        for name, numbers in zip(_PLAIN, zip(*map(_plain_of, many), strict=True), strict=True):
            counts.count(name, sum(numbers))
        for group, nothing in _NOTHING.items():
            for part in map(attrgetter(group), many):
                if part is not nothing:
                    for name in part.__struct_fields__:
                        counts.count(f"{group}_{name}", getattr(part, name))
        counts.time(calls.latency for calls in many)


_PLAIN = ("calls", "successes", "failures", "timeouts", "slow", "cancelled", "retries")
# What stands there of those a report does not mention.
_NOTHING = {
    name: default
    for name, default in zip(Calls.__struct_fields__, Calls.__struct_defaults__, strict=True)
    if isinstance(default, Struct)
}
_INDEXES = frozenset(map(str, range(histogram.SIZE)))  # as everybody writes them
_plain_of = attrgetter(*_PLAIN)


class OwnRequests(Struct, frozen=True, gc=False):
    """A service's own traffic since the last report."""

    count: Count = 0
    client_errors: Count = msgspec.field(name="4xx", default=0)
    server_errors: Count = msgspec.field(name="5xx", default=0)
    latency: Latency = {}

    @staticmethod
    def add_up(counts: rules.Counts, many: Sequence["OwnRequests"]) -> None:
        """Add what many reports say."""
        for requests in many:
            counts.count("calls", requests.count)
            counts.count("client_errors", requests.client_errors)
            counts.count("server_errors", requests.server_errors)
        counts.time(requests.latency for requests in many)


class Resources(Struct, frozen=True, gc=False, omit_defaults=True):
    """Shares of the instance's host in use, or free."""

    cpu: Share | None = None
    memory: Share | None = None
    memory_host: Share | None = None
    disk_free: Share | None = None


class Refused(Struct, frozen=True, gc=False):
    """An entry of the document the instance would not apply."""

    path: str
    revision: Number | None = None
    code: str = ""
    detail: str = ""


class Event(Struct, frozen=True, gc=False):
    at: Instant
    type: Annotated[str, Meta(min_length=1, max_length=60)]
    dependency: str | None = None
    data: dict[str, Any] = {}


class Report(Struct, frozen=True, gc=False):
    """What one process of a service says every few seconds. Members not listed are ignored."""

    instance: UUID
    sequence: Annotated[int, Meta(ge=1, lt=2**53)]
    service: Name | None = None
    name: str = ""
    sdk: str = ""
    started_at: Instant | None = None
    window_seconds: Seconds = 0.0
    epoch: UUID | None = None
    applied_revision: Number | None = None
    applied_at: Instant | None = None
    refused: list[Refused] = []
    stopping: bool = False
    requests: OwnRequests | None = None
    resources: Resources | None = None
    # Names that cannot be a dependency's are left out later: one odd name in the code of a
    # service must not cost it its acknowledgements.
    dependencies: dict[str, Calls] = {}
    events: Annotated[list[Event], Meta(max_length=MOST_EVENTS)] = []


_decoder = msgspec.json.Decoder(Report)
_ITEM = re.compile(r"\[(?:\.\.\.|\d+)\]")  # of a map or list, in a path
_ANY = "dependencies[...]"  # how the decoder speaks of one of them


def read(body: bytes) -> Report:
    """The report that `body` is.

    Raises:
        RuleBroken: it is not one; `errors` names the member that is wrong.
    """
    try:
        report = _decoder.decode(body)
    except msgspec.ValidationError as error:
        what, _at, path = str(error).partition(" - at `$")
        path = path.rstrip("`").lstrip(".")
        raise _refusal(_named(path, body), _bounds_of(path) or what) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refusal("", _("The body is not valid JSON: %(why)s") % {"why": error}) from error
    except RecursionError as error:
        raise _refusal("", _("The body is nested too deep.")) from error
    _check(report)
    return report


def _named(path: str, body: bytes) -> str:
    """The path with the name of the dependency, which the decoder leaves out."""
    if not path.startswith(_ANY):
        return path
    for name, calls in msgspec.json.decode(body)["dependencies"].items():
        try:
            msgspec.convert(calls, Calls)
        except msgspec.ValidationError:
            return f"dependencies.{name[:80]}{path.removeprefix(_ANY)}"
    return path


def _bounds_of(path: str) -> str:
    """What a number at this path may be, in words; empty for what is no number with bounds."""
    kind: Any = msgspec.inspect.type_info(Report)
    for part in _ITEM.sub(".*", path).split("."):
        kind = _within(kind, part)
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return ""
    most = kind.le if kind.lt is None else kind.lt - 1
    if kind.ge is None or most is None:
        return ""
    is_whole = isinstance(kind, msgspec.inspect.IntType)
    text = (
        _("Must be a whole number from %(least)d to %(most)d.")
        if is_whole
        else _("Must be a number from %(least)d to %(most)d.")
    )
    return text % {"least": kind.ge, "most": most}


def _within(kind: Any, part: str) -> Any:
    """The type of one member; of what may be null, the type it has otherwise."""
    if isinstance(kind, msgspec.inspect.StructType):
        kind = next((each.type for each in kind.fields if each.encode_name == part), None)
    elif isinstance(kind, msgspec.inspect.DictType):
        kind = kind.value_type
    elif isinstance(kind, msgspec.inspect.ListType):
        kind = kind.item_type
    if isinstance(kind, msgspec.inspect.UnionType):
        named = [each for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
        kind = named[0] if len(named) == 1 else None
    return kind


def _check(report: Report) -> None:
    """What types cannot say: indexes of histograms and the size of events' data."""
    reported = report.dependencies
    if not _INDEXES.issuperset(chain.from_iterable(calls.latency for calls in reported.values())):
        for name, calls in reported.items():
            _check_latency(f"dependencies.{name}.latency", calls.latency)
    if report.requests is not None:
        _check_latency("requests.latency", report.requests.latency)
    for number, event in enumerate(report.events):
        if not _is_small(event.data):
            text = _("At most %(bytes)d bytes, %(levels)d levels deep.")
            limits = {"bytes": MOST_DATA, "levels": MOST_LEVELS}
            raise _refusal(f"events[{number}].data", text % limits)


def _check_latency(path: str, latency: Latency) -> None:
    try:
        histogram.decode(latency)
    except ValueError as error:
        raise _refusal(path, str(error)) from error


def _is_small(data: dict[str, Any]) -> bool:
    return _is_within(data, MOST_LEVELS) and len(msgspec.json.encode(data)) <= MOST_DATA


def _is_within(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested `levels` deep at most."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_is_within(inner, levels - 1) for inner in value)


def _refusal(path: str, text: str) -> RuleBroken:
    where = path or "body"
    return RuleBroken(
        _("The report is not what the contract says: %(where)s.") % {"where": where},
        errors={where: [text]},
    )


def schema() -> dict[str, Any]:
    """JSON Schema of a report, with everything in one piece."""
    (whole,), parts = msgspec.json.schema_components([Report], ref_template="{name}")
    return dict(_inlined(whole, parts))


def _inlined(node: Any, parts: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(inner, parts) for inner in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(parts[node["$ref"]], parts)
    return {name: _inlined(inner, parts) for name, inner in node.items()}
