"""The Python runner of `sdk/conformance`: every case against the real code."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast import histogram, spec
from holdfast._breaker import Breaker
from holdfast._breaker_rules import BreakerRules, Override, Ticket
from holdfast._document import Document, Received, parse
from holdfast._flags import Flags
from holdfast._hedge_delay import Durations, HedgeRules
from holdfast._letter import OMITTED, Capture, Limits, encode
from holdfast._rate_limit import RateLimiter, RateLimitRules, Turn
from holdfast._retry import Attempts, Budget, RetryRules, StopReason
from holdfast._throttle import Bucket, Throttle
from holdfast.errors import BadDocument, CircuitOpen, RateLimited

FOLDER = Path(__file__).parents[1] / "conformance"
Case = dict[str, Any]


def load(file: str) -> Any:
    return json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))


def cases(file: str, having: str = "name") -> pytest.MarkDecorator:
    chosen = [case for case in load(file)["cases"] if having in case]
    assert chosen, f"{file}.json has no case with {having}"
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case["name"])


def test_every_file_is_run() -> None:
    files = {path.stem for path in FOLDER.glob("*.json")}

    assert files == {
        "settings", "effective", "documents", "breaker", "retry", "rate_limit", "flags", "merges",
        "histogram", "dead_letters", "throttle", "hedge",
    }  # fmt: skip


@cases("settings")
def test_settings(case: Case) -> None:
    cleaned, problems = spec.clean_pattern(case["pattern"], case["values"])

    assert cleaned == case["cleaned"]
    assert sorted([each.path, each.code] for each in problems) == sorted(case["problems"])


@cases("effective")
def test_effective_values(case: Case) -> None:
    assert [problem.path for problem in spec.check_effective(case["policy"])] == case["problems"]


@cases("documents", having="refused")
def test_documents(case: Case) -> None:
    document = parse_case(case)

    assert sorted(document.flags) == sorted(case["flags"])
    assert document.dependencies == case["dependencies"]
    assert [[each["path"], each["code"]] for each in document.refused] == case["refused"]


@cases("documents", having="error")
def test_unusable_documents(case: Case) -> None:
    with pytest.raises(BadDocument) as caught:
        parse_case(case)

    assert caught.value.code == case["error"]


def parse_case(case: Case) -> Document:
    previous = parse(case["previous"]) if "previous" in case else None
    return parse(json.dumps(case["body"]).encode(), previous)


class Script:
    """Runs the steps of one breaker script."""

    def __init__(self, case: Case) -> None:
        self.attempt_seconds = case.get("attempt_seconds", 0.0)
        dice = itertools.cycle(case.get("random", [0.5]))
        self.breaker = Breaker(
            "script",
            self.rules(case["settings"]),
            now=0.0,
            emit=lambda kind, data: None,
            rand=lambda: next(dice),
        )
        self.tickets: dict[str, Ticket] = {}

    def rules(self, settings: dict[str, Any]) -> BreakerRules:
        policy = {"breaker": spec.clean_pattern("breaker", settings)[0]}
        return BreakerRules.of(spec.effective_pattern(policy, "breaker"), self.attempt_seconds)

    def run(self, step: Case) -> None:
        doing: Callable[[Case], None] = getattr(self, f"do_{step['do']}")
        doing(step)
        seen = {"state": self.breaker.state, "override": self.mode()}
        expected = {key: step[key] for key in seen if key in step}
        assert {key: seen[key] for key in expected} == expected, step

    def mode(self) -> str | None:
        override = self.breaker.override
        return None if override is None else override.mode

    def do_begin(self, step: Case) -> None:
        answer = self.breaker.peek(step["at"]) or self.breaker.admit(step["at"])
        assert isinstance(answer, Ticket) is step["admitted"], step
        if isinstance(answer, Ticket):
            self.tickets[step["call"]] = answer
        elif "retry_after" in step:
            assert answer.retry_after == pytest.approx(step["retry_after"])

    def do_end(self, step: Case) -> None:
        ticket = self.tickets.pop(step["call"])
        self.breaker.settle(ticket, step["outcome"], step["at"], klass=step.get("class"))

    def do_calls(self, step: Case) -> None:
        for _ in range(step["count"]):
            ticket = self.breaker.admit(step["at"])
            assert isinstance(ticket, Ticket), step
            self.breaker.settle(ticket, step["outcome"], step["at"], klass=step.get("class"))

    def do_configure(self, step: Case) -> None:
        self.breaker.configure(self.rules(step["settings"]), step["at"])

    def do_override(self, step: Case) -> None:
        override = None
        if step["mode"] is not None:
            deadline = step["at"] + step["lease"] if "lease" in step else None
            override = Override(mode=step["mode"], deadline=deadline)
        self.breaker.set_override(step["source"], override, step["at"])

    def do_wait(self, step: Case) -> None:
        self.breaker.sweep(step["at"])


@cases("breaker")
def test_breaker_scripts(case: Case) -> None:
    script = Script(case)
    for step in case["steps"]:
        script.run(step)


class Answered(Exception):
    """An error with an HTTP answer, as httpx and requests raise them."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.response = self
        self.headers = headers


def raised(entry: Any) -> tuple[Exception, str]:
    if isinstance(entry, str):
        return RuntimeError(), entry
    if "circuit_open" in entry:
        return CircuitOpen("script", retry_after=entry["circuit_open"]), "rejected"
    return Answered({"Retry-After": entry["retry_after"]}), entry["class"]


def decisions(case: Case) -> Iterator[float | StopReason]:
    values, problems = spec.clean_pattern("retry", case["settings"])
    assert not problems
    rules = RetryRules.of(spec.effective_pattern({"retry": values}, "retry"))
    assert rules is not None
    budget = Budget(rules.budget_tokens, rules.budget_refill)
    attempts, dice = Attempts(rules), itertools.cycle(case["random"])
    wall = datetime.fromisoformat(case.get("wall", "2026-01-01T00:00:00Z")).timestamp()
    remaining = case.get("remaining", [None] * len(case["errors"]))
    for entry, left in zip(case["errors"], remaining, strict=True):
        error, klass = raised(entry)
        yield attempts.next_wait(
            error, klass, budget=budget, remaining=left, rand=lambda: next(dice), wall=lambda: wall
        )


@cases("retry")
def test_retry_sequences(case: Case) -> None:
    *waits, stop = decisions(case)

    assert waits == pytest.approx(case["waits"])
    assert stop == case["stop"]


class Turns:
    """Runs the steps of one script of the rate limit."""

    def __init__(self, case: Case) -> None:
        self.rules = self.rules_of(case["settings"])
        self.limiter = RateLimiter("script", self.rules)
        self.held: dict[str, Turn] = {}

    def rules_of(self, settings: dict[str, Any]) -> RateLimitRules:
        values, problems = spec.clean_pattern("rate_limit", {"enabled": True, **settings})
        assert not problems
        rules = RateLimitRules.of(spec.effective_pattern({"rate_limit": values}, "rate_limit"))
        assert rules is not None
        return rules

    def do_take(self, step: Case) -> None:
        expected = {key: step[key] for key in ("wait", "retry_after") if key in step}
        for _ in range(step.get("count", 1)):
            assert self.taken(step) == pytest.approx(expected), step

    def taken(self, step: Case) -> dict[str, float | None]:
        try:
            turn = self.limiter.take(self.rules, step["at"], step.get("remaining"))
        except RateLimited as error:
            return {"retry_after": error.retry_after}
        self.held[step.get("call", "")] = turn
        return {"wait": turn.wait}

    def do_give_back(self, step: Case) -> None:
        self.limiter.give_back(self.held.pop(step["call"]))

    def do_configure(self, step: Case) -> None:
        self.rules = self.rules_of(step["settings"])
        self.limiter.configure(self.rules, step["at"])


@cases("rate_limit")
def test_rate_limit_scripts(case: Case) -> None:
    script = Turns(case)
    for step in case["steps"]:
        doing: Callable[[Case], None] = getattr(script, f"do_{step['do']}")
        doing(step)


@cases("throttle")
def test_throttle_scripts(case: Case) -> None:
    throttle = Throttle()
    under_way: dict[str, list[Bucket]] = {}
    for step in case["steps"]:
        if step["do"] == "send":
            sent = [throttle.sent(step["at"]) for _ in range(step.get("count", 1))]
            under_way[step["call"]] = sent
        elif step["do"] == "end":
            for bucket in under_way.pop(step["call"]):
                throttle.ended(bucket, step["accepted"])
        else:
            assert throttle.figures(step["at"])["share"] == pytest.approx(step["share"]), step


@cases("hedge")
def test_waits_for_second_copies(case: Case) -> None:
    values, problems = spec.clean_pattern("hedge", case["settings"])
    assert not problems
    settings = spec.effective_pattern({"hedge": values}, "hedge")
    rules = HedgeRules.of(settings, is_idempotent=case.get("idempotent", True))
    durations = Durations()
    for seconds, times in case["took"]:
        for _ in range(times):
            durations.add(seconds)

    assert (None if rules is None else rules.delay(durations)) == case["delay"]


@cases("flags", having="bucket")
def test_buckets(case: Case) -> None:
    assert spec.flag_bucket(case["flag"], case["key"]) == case["bucket"]


@cases("flags", having="reads")
def test_flag_reads(case: Case) -> None:
    now = [float(case["received"])]
    flags = Flags(lambda: now[0])
    entries = {key: spec.clean_flag(entry)[0] for key, entry in case["entries"].items()}
    server_time = datetime.fromisoformat(case["server_time"]).timestamp()
    flags.replace(entries, Received(server_time=server_time, monotonic=now[0]))

    for read in case["reads"]:
        now[0], flags.stale = read["at"], read["stale"]
        assert flags.state(read["flag"], read["key"]).enabled is read["enabled"], read


@cases("merges")
def test_merges(case: Case) -> None:
    merge = {"flag": spec.merge_flags, "override": spec.merge_overrides}[case["kind"]]

    merged = merge(case["levels"])

    assert {key: merged[key] for key in case["merged"]} == case["merged"]


def test_histogram_edges() -> None:
    assert list(histogram.EDGES) == load("histogram")["edges"]


@cases("histogram", having="index")
def test_histogram_buckets(case: Case) -> None:
    assert histogram.index_of(case["seconds"]) == case["index"]


@cases("histogram", having="quantile")
def test_histogram_quantiles(case: Case) -> None:
    answer = histogram.quantile(case["counts"], case["q"])

    assert answer == (None if case["quantile"] is None else pytest.approx(case["quantile"]))


@cases("dead_letters")
def test_dead_letters(case: Case) -> None:
    given = dict(case["capture"])
    if "base64" in given:
        given["body"] = base64.b64decode(given.pop("base64"))
    limits = case.get("limits", {}) | {"redact": tuple(case.get("limits", {}).get("redact", ()))}

    letter = json.loads(encode(Capture(failed_at=0.0, **given), Limits(**limits)))

    expected = dict(case["letter"])
    if "content" in expected:
        assert json.loads(letter["body"]["data"]) == expected.pop("content")
    if "is_omitted" in expected:
        assert (OMITTED in letter["headers"]) == expected.pop("is_omitted")
    if "headers" in expected:
        assert expected.pop("headers").items() <= letter["headers"].items()
    assert {name: letter[name] for name in expected} == expected
