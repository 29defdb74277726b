"""The wall in a browser: slow lines, cut ones, a vast fleet, keys, sound, and who cannot see it."""

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from apps.live.rules.deltas import difference
from tests import make
from tests.e2e.lines import Line
from tests.e2e.processes import Holdfast, eventually

CALM, DEPENDENCIES = "ledger", 170  # two services of so many are more than a frame holds
OLD_SECONDS = 3.0  # after which the page says that it is behind


class Fleet:
    """Two services with one instance each; what they report is up to the test."""

    def __init__(self, holdfast: Holdfast) -> None:
        headers = {"Authorization": f"Bearer {holdfast.token('reports:write', 'policies:read')}"}
        self.api = httpx.Client(base_url=f"{holdfast.url}/api/v1/", headers=headers, timeout=30)
        self._sequence = 0
        self._ids = {"checkout": str(uuid4()), CALM: str(uuid4())}

    def report(self, *opened: str) -> None:
        """Both report that they run what is published; these breakers of checkout's are open."""
        self._sequence += 1
        for service, instance in self._ids.items():
            meta = self.api.get(f"policies/{service}").json()["meta"]
            body = make.report(
                service=service,
                instance=instance,
                sequence=self._sequence,
                epoch=meta["epoch"],
                applied_revision=meta["revision"],
                dependencies={
                    name: make.calls(breaker=breaker(service != CALM and name in opened))
                    for name in (f"dependency-{number:03}" for number in range(DEPENDENCIES))
                },
            )
            answer = self.api.post("reports", json=body)
            assert answer.status_code == 202, answer.text


def breaker(is_open: bool) -> dict[str, Any]:
    state = "open" if is_open else "closed"
    return {"state": state, "since": None, "generation": 0, "override": None}


@pytest.fixture(scope="module")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with Holdfast(tmp_path_factory.mktemp("holdfast")) as started:
        yield started


@pytest.fixture(scope="module")
def fleet(holdfast: Holdfast) -> Iterator[Fleet]:
    found = Fleet(holdfast)
    with found.api:
        found.report()  # which makes its dependencies known, and publishes that
        found.report()
        yield found


@pytest.fixture(scope="module")
def kiosk(holdfast: Holdfast) -> str:
    """What a screen's address ends with the first time."""
    return f"/wall/?token={holdfast.token('wall:read')}"


def shown(page: Page) -> dict[str, Any]:
    """The number of the frame on the page, its age as the page says it, and as it is."""
    found: dict[str, Any] = page.evaluate(
        """() => {
            const wall = document.querySelector("status-wall");
            return {
                sequence: wall.frame?.sequence ?? 0,
                said: Number.parseFloat(wall.querySelector('[data-field="age"]').textContent),
                age: (Date.now() - Date.parse(wall.asOf)) / 1000,
                freshness: wall.dataset.freshness,
            };
        }"""
    )
    return found


def frames_since(page: Page, sequence: int, *, more: int) -> Callable[[], bool]:
    return lambda: shown(page)["sequence"] >= sequence + more


def test_viewers_on_slow_lines_see_the_newest_and_how_old_it_is(
    browser: Browser, holdfast: Holdfast, fleet: Fleet, kiosk: str
) -> None:
    page = browser.new_page()
    page.goto(f"{holdfast.url}{kiosk}")
    eventually(frames_since(page, 0, more=1), within=15, what="a frame")
    line = page.context.new_cdp_session(page)
    fleet.report("dependency-000")

    line.send("Network.emulateNetworkConditions", slow(bytes_per_second=300))
    fleet.report("dependency-000", "dependency-001")
    seen = []

    def is_behind() -> bool:
        seen.append(shown(page))
        return bool(seen[-1]["age"] > OLD_SECONDS + 1)

    eventually(is_behind, within=20, what="it is behind", every=0.2)
    behind = shown(page)
    line.send("Network.emulateNetworkConditions", slow(bytes_per_second=-1))
    took = eventually(lambda: shown(page)["age"] < 2, within=15, what="it has caught up", every=0.1)

    assert behind["freshness"] == "stale"
    assert max(abs(each["age"] - each["said"]) for each in [*seen, behind]) < 1.6  # whole seconds,
    # looked at twice in one of them
    expect(page.locator('.tile[data-dependency="dependency-001"]')).to_have_attribute(
        "data-condition", "open"
    )
    assert took < 10
    assert shown(page)["freshness"] == "live"


def slow(*, bytes_per_second: int) -> dict[str, Any]:
    return {
        "offline": False,
        "latency": 0 if bytes_per_second < 0 else 400,  # milliseconds
        "downloadThroughput": bytes_per_second,
        "uploadThroughput": bytes_per_second,
    }


def test_of_two_screens_one_is_cut_off_and_goes_on_without_a_gap(
    browser: Browser, holdfast: Holdfast, fleet: Fleet, kiosk: str
) -> None:
    with Line(holdfast.port) as line:
        one, other = browser.new_context().new_page(), browser.new_context().new_page()
        one.goto(f"{holdfast.url}{kiosk}")
        other.goto(f"{line.url}{kiosk}")
        for page in (one, other):
            eventually(frames_since(page, 0, more=1), within=15, what="a frame")

        line.cut()
        expect(other.locator('[data-part="lost"]')).to_be_visible()
        fleet.report("dependency-007")
        expect(other.locator('[data-part="lost"]')).to_be_hidden(timeout=15_000)

        tile = '.tile[data-dependency="dependency-007"]'
        for page in (one, other):
            expect(page.locator(tile)).to_have_attribute("data-condition", "open")
        eventually(lambda: boards(one, other), within=10, what="both show the same", every=0.1)
        eventually(
            frames_since(other, shown(other)["sequence"], more=2), within=10, what="it goes on"
        )


def boards(*pages: Page) -> bool:
    """Whether they show the same frame alike."""
    script = """() => {
        const wall = document.querySelector("status-wall");
        const texts = [...wall.querySelectorAll(".service, .line")].map((each) => each.innerText);
        return JSON.stringify([wall.frame.sequence, texts]);
    }"""
    return len({page.evaluate(script) for page in pages}) == 1


def test_a_vast_fleet_is_grouped_and_everything_can_be_reached_by_keys(
    browser: Browser, holdfast: Holdfast, fleet: Fleet, kiosk: str
) -> None:
    fleet.report("dependency-000", "dependency-150")
    context = browser.new_context(
        viewport={"width": 1440, "height": 1000},
        reduced_motion="reduce",  # no colour half-way when axe looks
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{holdfast.url}{kiosk}")
    eventually(frames_since(page, 0, more=1), within=15, what="a frame")

    expect(page.locator(".board .tile")).to_have_count(2)
    expect(page.locator(".board .fold")).to_have_text(
        [f"{DEPENDENCIES - 2} closed"], use_inner_text=True
    )
    expect(page.locator(".line")).to_have_attribute("data-service", CALM)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert serious_faults(page) == []

    page.keyboard.press("n")
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.className") in ("tile", "alert")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert serious_faults(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("150")
    expect(page.locator(".board .tile:visible")).to_have_count(1)
    assert "filter=150" in page.url
    page.keyboard.press("Escape")
    page.goto(f"{page.url}#service={CALM}")
    expect(page.locator(".chosen .tile")).to_have_count(DEPENDENCIES)
    page.keyboard.press("Escape")
    expect(page.locator(".board")).to_be_visible()

    page.keyboard.press("s")
    sound = page.locator('[data-part="sound"]')
    expect(sound).to_have_attribute("aria-pressed", "true")
    heard = int(sound.get_attribute("data-sounded") or 0)
    fleet.report("dependency-000", "dependency-150", "dependency-033")
    expect(sound).to_have_attribute("data-sounded", str(heard + 1), timeout=20_000)

    assert patched_otherwise(page, pairs(60)) == []
    assert wrong == []


def test_a_screen_nobody_touches_shows_one_view_after_the_other(
    browser: Browser, holdfast: Holdfast, fleet: Fleet, kiosk: str
) -> None:
    page = browser.new_page()
    page.clock.install()
    page.goto(f"{holdfast.url}{kiosk}")
    page.goto(f"{holdfast.url}/wall/?rotate=30&views=services,alerts,nonsense")
    wall, board = page.locator("status-wall"), page.locator(".board")

    expect(wall).to_have_attribute("data-view", "services")
    page.clock.run_for(30_000)
    expect(wall).to_have_attribute("data-view", "alerts")
    expect(board).to_be_hidden()
    page.clock.run_for(30_000)
    expect(wall).to_have_attribute("data-view", "services")
    expect(board).to_be_visible()
    page.keyboard.press("ArrowRight")  # somebody is there
    page.clock.run_for(30_000)
    expect(wall).to_have_attribute("data-view", "services")


def serious_faults(page: Page) -> list[tuple[str, str]]:
    """Rule of axe and place, of what keeps people out."""
    return [
        (violation["id"], violation["nodes"][0]["html"])
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]


def pairs(number: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Frames to go from and to."""
    dice = random.Random(time.time_ns())
    return [(a_frame(dice), a_frame(dice)) for _ in range(number)]


def a_frame(dice: random.Random) -> dict[str, Any]:
    def some(key: str, **members: Callable[[], Any]) -> list[dict[str, Any]]:
        names = dice.sample(["a", "b", "c", "constructor", "toString"], dice.randint(0, 4))
        return [{key: name, **{each: make() for each, make in members.items()}} for name in names]

    def value() -> Any:
        return dice.choice([None, True, 0, 1.5, "text", [1, {}], {"a": None}])

    tiles = lambda: some("dependency", condition=value, trend=value)  # noqa: E731 - a factory
    return {
        "sequence": value(),
        "switches": value(),
        "services": some("slug", n=value, tiles=tiles),
    }


def patched_otherwise(page: Page, frames: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[Any]:
    """Those of the changes that the page's own script makes something else of."""
    cases = [[before, difference(before, after), after] for before, after in frames]
    found: list[Any] = page.evaluate(
        """async (cases) => {
            const { patched } = await import(document.querySelector("script[type=module]")
                .src.replace("wall.js", "deltas.js"));
            const sorted = (_name, value) => value && typeof value === "object"
                && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value;
            const text = (value) => JSON.stringify(value, sorted);
            return cases.filter(([before, change, after]) =>
                text(patched(before, change)) !== text(after));
        }""",
        json.loads(json.dumps(cases)),
    )
    return found
