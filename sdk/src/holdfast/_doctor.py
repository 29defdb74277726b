"""What `python -m holdfast doctor` looks at: one finding per line, each with what to do."""

import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast._document import parse
from holdfast._pace import server_time_of
from holdfast._settings import Settings, Timing, new_instance
from holdfast._stream_parser import EventParser, StreamBroken
from holdfast._transport import MAX_DOCUMENT_BYTES, Answer, EventStream, Transport, TransportFailed
from holdfast.clock import Clock
from holdfast.errors import BadDocument

_CLOCK_WARN_SECONDS = 5.0  # `Date` has whole seconds, and the answer takes time
_GREETING_SECONDS = 5.0
_MOST_CHUNKS = 10_000

_NEW_TOKEN = "on the server: manage.py createtoken --environment … --service …"

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: how it stands with something, and what to do about it."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject:<8}  {self.text}"


def examine(settings: Settings, timing: Timing | None = None) -> Iterator[Finding]:
    """Look at everything a client needs, in the order in which it needs it."""
    yield _settings_finding(settings)
    yield cache_finding(settings.cache_dir)
    if settings.problem is not None:
        return
    transport = Transport(
        settings, new_instance(), Clock(), timing or Timing(silence_seconds=_GREETING_SECONDS)
    )
    try:
        yield from _server_findings(transport)
    finally:
        transport.close()


def _settings_finding(settings: Settings) -> Finding:
    if settings.problem is not None:
        return Finding("fail", "settings", f"{settings.problem}; the SDK runs on local defaults")
    return Finding("ok", "settings", f"service {settings.service} at {settings.url}")


def cache_finding(directory: Path | None) -> Finding:
    """Whether the last good policy survives a restart while Holdfast is down."""
    if directory is None:
        return Finding("warn", "cache", "no home directory; set HOLDFAST_CACHE_DIR")
    probe = directory / f".doctor.{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"x")
        probe.unlink()
        mode = stat.S_IMODE(directory.stat().st_mode)
    except OSError as error:
        text = f"{directory}: {error.strerror}; without it a restart starts on local defaults"
        return Finding("warn", "cache", f"{text}; make it writable or set HOLDFAST_CACHE_DIR")
    if mode & 0o022:
        return Finding("warn", "cache", f"{directory}: others may write here; chmod go-w it")
    return Finding("ok", "cache", f"{directory} is writable")


def _server_findings(transport: Transport) -> Iterator[Finding]:
    try:
        answer = transport.fetch_policy()
    except TransportFailed as failure:
        text = f"no answer ({failure.kind}); is it running at that address and port?"
        text += " Else check DNS, proxies and certificates"
        yield Finding("fail", "server", text)
        return
    yield _policy_finding(answer)
    if answer.status in {401, 404}:
        return  # whatever else is asked fails for the same reason
    yield _clock_finding(answer, time.time())
    yield _asked("reports", lambda: _report_finding(transport))
    yield _asked("stream", lambda: _stream_finding(transport))
    yield _asked("letters", lambda: _letters_finding(transport))
    yield _asked("redrives", lambda: _redrives_finding(transport))


def _asked(subject: str, ask: Callable[[], Finding]) -> Finding:
    try:
        return ask()
    except (TransportFailed, StreamBroken) as failure:
        return Finding("fail", subject, f"no usable answer ({failure})")


def _policy_finding(answer: Answer) -> Finding:
    refusals = {
        401: f"the token is unknown, expired or revoked; {_NEW_TOKEN} --scope policies:read …",
        403: f"the token lacks the scope policies:read; {_NEW_TOKEN} --scope policies:read …",
        404: "the token is of another service; check HOLDFAST_SERVICE, or make one for this one",
        429: "asked too often; try again later",
        503: "the server is starting up or draining; try again in a moment",
    }
    if answer.status != 200:
        text = refusals.get(answer.status, f"unexpected status {answer.status}; is this Holdfast?")
        return Finding("fail", "policy", text)
    try:
        document = parse(answer.body)
    except BadDocument as error:
        return Finding("fail", "policy", f"no policy document ({error.detail}); is this Holdfast?")
    where = f"{document.environment}, revision {document.revision}"
    if document.refused:
        paths = ", ".join(sorted(refusal["path"] for refusal in document.refused)[:5])
        return Finding("warn", "policy", f"{where}; refused entries: {paths}; update the SDK?")
    return Finding("ok", "policy", where)


def _clock_finding(answer: Answer, now: float) -> Finding:
    server_time = server_time_of(answer.headers)
    if server_time is None:
        return Finding("warn", "clock", "the server sends no Date; a proxy may have removed it")
    offset = now - server_time
    text = f"{offset:+.0f} s from the server's"
    if abs(offset) > _CLOCK_WARN_SECONDS:
        return Finding("warn", "clock", f"{text}; leases are safe, timestamps are not: check NTP")
    return Finding("ok", "clock", text)


def _report_finding(transport: Transport) -> Finding:
    """Ask with a report that cannot be accepted: it shows the scope and leaves no trace."""
    status = transport.send_report(b"{}").status
    if status in {400, 422}:
        text = "the token may send them; those refused: hf.stats()['policy']['reports']"
        return Finding("ok", "reports", text)
    if status == 403:
        text = "the token lacks the scope reports:write, so the wall will not show this service"
        text += f"; {_NEW_TOKEN} --scope reports:write …"
        return Finding("fail", "reports", text)
    return Finding("warn", "reports", f"unexpected status {status}")


def _letters_finding(transport: Transport) -> Finding:
    """Ask with no letters at all: it shows the scope and leaves no trace."""
    return _optional(
        "letters",
        transport.send_letters(b"").status,
        "the token may hand in dead letters",
        "the token lacks the scope deadletters:write; dead letters stay on this machine's disk",
    )


def _redrives_finding(transport: Transport) -> Finding:
    """Ask with no outcomes at all."""
    return _optional(
        "redrives",
        transport.send_outcomes(b"").status,
        "the token may try dead letters again",
        "the token lacks the scope redrives:work; @hf.redrives functions get no letters",
    )


def _optional(subject: str, status: int, good: str, lacking: str) -> Finding:
    """What only some services need: never a failure."""
    if status in {200, 201, 400, 422}:
        return Finding("ok", subject, good)
    if status == 403:
        return Finding("warn", subject, f"{lacking}; if you need them: {_NEW_TOKEN} --scope …")
    return Finding("warn", subject, f"unexpected status {status}; is the server older?")


def _stream_finding(transport: Transport) -> Finding:
    with transport.open_stream() as stream:
        if stream.status != 200:
            text = f"status {stream.status}; changes arrive by polling only, within seconds"
            return Finding("warn", "stream", text)
        if _greets(stream):
            return Finding("ok", "stream", "open, changes arrive as they are published")
    return Finding("warn", "stream", "opened but silent; does a proxy buffer event streams?")


def _greets(stream: EventStream) -> bool:
    parser = EventParser(2 * MAX_DOCUMENT_BYTES)
    try:
        for chunk in itertools.islice(stream.chunks(), _MOST_CHUNKS):
            if any(event.name == "hello" for event in parser.feed(chunk)):
                return True
    except TransportFailed:
        return False  # silent for too long
    return False
