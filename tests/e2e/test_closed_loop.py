"""The closed loop, on the demo: trouble is seen, acted on, shown, over, and made up for."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.demo import Demo, calm_demo
from tests.e2e.processes import eventually

__all__ = ["calm_demo"]
BROKEN, HANDLER, FLAG = "green-api", "send-message", "messages-later"
HISTORY = f"/admin/history/?environment=demo&dependency={BROKEN}&span=15m"
# Holdfast looks at a check every five seconds, instances report as often; the rest is patience
# with a busy machine.
PATIENCE = 60.0


class Steps:
    """The seconds from one step to the next, for those who want to know."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record
        self._last = time.monotonic()

    def reach(self, what: str, is_so: Callable[[], bool]) -> None:
        eventually(is_so, within=PATIENCE, what=what, every=0.1)
        self.reached(what)

    def reached(self, what: str) -> None:
        now = time.monotonic()
        self._record(what, f"{now - self._last:.2f} s")
        self._last = now


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()


@pytest.mark.timeout(300)
def test_a_broken_dependency_is_seen_acted_on_and_made_up_for(
    calm_demo: Demo, page: Page, record_property: Callable[[str, object], None]
) -> None:
    demo = calm_demo
    arm(demo)
    log_in(page, demo)
    wall = page.context.new_page()
    wall.goto(f"{demo.console.base_url}/wall/?environment=demo")

    demo.say("break", BROKEN, "10m")
    steps = Steps(record_property)
    steps.reach("breaker open", lambda: open_breakers(demo) > 0)
    steps.reach("alert of the breaker", lambda: is_firing(demo, "breaker-open"))
    steps.reach("alert of the check", lambda: is_firing(demo, "messages-down"))
    steps.reach("fallback engaged", lambda: flag(demo)["enabled"])
    assert flag(demo)["set_by"] == "alert action"
    expect(wall.locator(f'[data-flag="{FLAG}"]').first).to_be_visible(timeout=10_000)
    expect(wall.locator(".alert", has_text="messages-down")).to_be_visible(timeout=10_000)
    steps.reached("on the wall")
    steps.reach("calls answered by the queue", lambda: "degraded" in reasons(demo))

    assert serious_faults(page, demo) == []
    assert_drawn(page, demo)

    demo.say("mend", BROKEN)
    steps = Steps(record_property)
    steps.reach("check's alert resolved", lambda: not is_firing(demo, "messages-down"))
    steps.reach("flag released", lambda: not flag(demo)["enabled"])
    expect(wall.locator(f'[data-flag="{FLAG}"]')).to_have_count(0, timeout=10_000)
    steps.reached("off the wall")
    steps.reach("breakers closed", lambda: open_breakers(demo) == 0)
    steps.reach("breaker's alert resolved", lambda: not is_firing(demo, "breaker-open"))
    (engagement,) = engagements(demo)
    assert engagement["outcome"] == "released"

    for group in waiting(demo):
        redrive_by_hand(page, demo, group)
    steps = Steps(record_property)
    steps.reach("letters confirmed", lambda: statuses(demo) == {"resolved"})
    taken = httpx.get(f"{demo.fakes}/{BROKEN}/taken", timeout=5).json()
    times = [taken.get(letter["idempotency_key"], 0) for letter in letters(demo)]
    assert times == [1] * len(times)
    assert sum(redrive["resolved"] for redrive in demo.asked("redrives")["results"]) == len(times)


def serious_faults(page: Page, demo: Demo) -> list[tuple[str, str, str]]:
    """What keeps people out of the pages one needs in trouble: page, rule of axe and the place."""
    alert = demo.asked("alerts?rule=messages-down")["results"][0]
    (check,) = demo.asked(f"checks?dependency={BROKEN}")["results"]
    paths = [
        "/admin/",
        "/admin/deadletters/group/",
        f"/admin/alerts/alert/{alert['id']}/change/",
        f"/admin/health/check/{check['id']}/change/",
        HISTORY,
        "/wall/?environment=demo",
    ]
    found = []
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for path in paths:
            page.goto(f"{demo.console.base_url}{path}")
            for violation in Axe().run(page).response["violations"]:
                if violation["impact"] in {"serious", "critical"}:
                    found.append((path, violation["id"], violation["nodes"][0]["html"]))
    return found


def assert_drawn(page: Page, demo: Demo) -> None:
    """The dependency's page draws what its calls came to, and that its breaker is open."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{demo.console.base_url}{HISTORY}")

    expect(page.locator("hf-went .u-over")).to_have_count(5, timeout=10_000)  # four, and lanes
    expect(page.locator("[data-of=lanes] tbody tr").first).to_contain_text(f"→ {BROKEN}open")
    assert wrong == []


def arm(demo: Demo) -> None:
    """What an operator prepares: if messages cannot be sent for a while, keep them for later."""
    rules = demo.asked("alert-rules?key=breaker-open")["results"]
    demo.patched(f"alert-rules/{rules[0]['id']}", rules[0], {"keep_firing_seconds": 5})
    rule = demo.changed(
        "alert-rules",
        {
            "key": "messages-down",
            "kind": "check_down",
            "threshold": 1,
            "dependency": BROKEN,
            "for_seconds": 10,
        },
    )
    demo.changed(
        "alert-actions",
        {
            "rule_id": rule["id"],
            "flag_key": FLAG,
            "flag_kind": "fallback",
            "dependencies": [BROKEN],
            "mode": "armed",
            "reason": "messages can wait, customers cannot",
        },
    )


def open_breakers(demo: Demo) -> float:
    having = f'dependency="{BROKEN}",state='
    return sum(
        demo.metric("holdfast_breaker_instances", having=f'{having}"{state}"')
        for state in ("open", "half_open")
    )


def is_firing(demo: Demo, rule: str) -> bool:
    path = f"alerts?rule={rule}&dependency={BROKEN}&state=firing"
    return bool(demo.asked(path)["results"])


def engagements(demo: Demo) -> list[dict[str, Any]]:
    (alert,) = demo.asked("alerts?rule=messages-down")["results"]
    found: list[dict[str, Any]] = demo.asked(f"alerts/{alert['id']}")["engagements"]
    return found


def flag(demo: Demo) -> dict[str, Any]:
    """As it is, or not engaged if nobody has made it yet."""
    found = [each for each in demo.asked("flags?limit=200")["results"] if each["key"] == FLAG]
    return found[0] if found else {"enabled": False}


def letters(demo: Demo) -> list[dict[str, Any]]:
    page = demo.asked(f"dead-letters?limit=200&handler={HANDLER}")
    assert page["next"] is None
    return list(page["results"])


def statuses(demo: Demo) -> set[str]:
    return {letter["status"] for letter in letters(demo)}


def reasons(demo: Demo) -> set[str]:
    return {letter["reason"] for letter in letters(demo)}


def waiting(demo: Demo) -> list[dict[str, Any]]:
    groups = demo.asked("dead-letter-groups?limit=200")["results"]
    return [group for group in groups if group["handler"] == HANDLER and group["unresolved"]]


def log_in(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.console.base_url}/admin/login/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(demo.password)
    page.get_by_role("button", name=re.compile("log in", re.IGNORECASE)).click()
    expect(page).to_have_url(re.compile("/admin/$"))


def redrive_by_hand(page: Page, demo: Demo, group: dict[str, Any]) -> None:
    page.goto(f"{demo.console.base_url}/admin/deadletters/group/{group['id']}/change/")
    page.get_by_role("link", name="Redrive group").first.click()
    page.get_by_label("Reason").fill("the provider is back")
    page.get_by_role("button", name="Redrive now").click()
    expect(page.get_by_text("The redrive runs").first).to_be_visible()
