"""The main job, end to end: real server, real SDK processes, real browser, then `kill -9`."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.processes import Holdfast, Process, eventually

KINDS = ("wsgi", "asgi", "bare")
SHORT_LEASE = 60  # seconds; the shortest there is


@pytest.fixture
def holdfast(tmp_path: Path) -> Iterator[Holdfast]:
    with Holdfast(tmp_path) as server:
        yield server


@pytest.fixture
def instances(holdfast: Holdfast, tmp_path: Path) -> Iterator[list[Process]]:
    """Three processes of the service `orders`, one of each build."""
    environment = {
        "HOLDFAST_URL": holdfast.url,
        "HOLDFAST_TOKEN": holdfast.token("policies:read", "reports:write", service="orders"),
        "HOLDFAST_SERVICE": "orders",
        "HOLDFAST_CACHE_DIR": str(tmp_path / "cache"),
    }
    with ExitStack() as stack:
        started = [
            Process(
                ["-m", "tests.e2e.orders", kind, "{port}"],
                environment,
                log=tmp_path / f"{kind}.log",
            )
            for kind in KINDS
        ]
        yield [stack.enter_context(process) for process in started]


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()


@pytest.mark.timeout(300)  # it waits for the shortest lease there is
def test_read_only_reaches_every_process_and_ends_without_holdfast(
    holdfast: Holdfast, instances: list[Process], page: Page
) -> None:
    assert [place_order(instance) for instance in instances] == [201, 201, 201]
    log_in(page, holdfast)
    wall = page.context.new_page()
    wall.goto(f"{holdfast.url}/wall/?environment=production")

    engage_read_only(page, holdfast)

    eventually(lambda: all_read_only(instances), within=2, what="every instance is read-only")
    for instance in instances:
        answer = httpx.post(f"{instance.url}/orders", timeout=5)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
    service = wall.locator('[data-service="orders"][data-total]').first
    expect(service).to_have_attribute("data-total", "3", timeout=10_000)
    expect(service).to_have_attribute("data-applied", "3", timeout=10_000)
    expect(wall.locator('[data-flag="read-only"]').first).to_contain_text("primary failing over")
    assert_audited(page, holdfast)
    assert "holds" in holdfast.manage("verifyaudit")

    shorten_the_lease(holdfast)
    eventually(
        lambda: all(remaining(each) <= SHORT_LEASE for each in instances),
        within=5,
        what="every instance knows the shorter lease",
    )
    left, since = min(remaining(each) for each in instances), time.monotonic()
    holdfast.kill()

    assert all_read_only(instances)
    expect(wall.locator('[data-part="lost"]')).to_be_visible(timeout=10_000)
    eventually(
        lambda: [place_order(instance) for instance in instances] == [201, 201, 201],
        within=SHORT_LEASE + 5,
        what="the lease ended in every instance",
    )
    assert time.monotonic() - since > left - 2  # not because Holdfast was gone


def place_order(instance: Process) -> int:
    return httpx.post(f"{instance.url}/orders", timeout=5).status_code


def all_read_only(instances: list[Process]) -> bool:
    return all(httpx.get(f"{each.url}/state", timeout=5).json()["read_only"] for each in instances)


def remaining(instance: Process) -> float:
    return float(httpx.get(f"{instance.url}/state", timeout=5).json()["remaining"])


def log_in(page: Page, holdfast: Holdfast) -> None:
    page.goto(f"{holdfast.url}/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(holdfast.password)
    page.get_by_role("button", name=re.compile("log in", re.IGNORECASE)).click()
    expect(page).to_have_url(re.compile("/admin/$"))


def engage_read_only(page: Page, holdfast: Holdfast) -> None:
    page.goto(f"{holdfast.url}/admin/degradation/flag/")
    page.get_by_role("link", name="Engage read-only").click()
    expect(page.get_by_text("1 service, 3 instances")).to_be_visible()
    page.evaluate("document.getElementById('facts').replaceChildren()")
    page.get_by_label("Environment").select_option(label="production")
    expect(page.get_by_text("1 service, 3 instances")).to_be_visible()  # said anew for that choice
    page.get_by_label("Reason").fill("primary failing over")
    page.get_by_role("button", name="Engage read-only now").click()
    expect(page.get_by_text("Read-only mode is engaged")).to_be_visible()


def assert_audited(page: Page, holdfast: Holdfast) -> None:
    """The log says who, when, why and what changed."""
    page.goto(f"{holdfast.url}/admin/audit/entry/?q=flag.engaged")
    page.locator("#result_list tbody a").first.click()
    for text in ("operator", "flag.engaged", "primary failing over", "enabled"):
        expect(page.get_by_text(text).first).to_be_visible()


def shorten_the_lease(holdfast: Holdfast) -> None:
    token = holdfast.token("flags:write", "config:read")
    with httpx.Client(
        base_url=f"{holdfast.url}/api/v1", headers={"Authorization": f"Bearer {token}"}
    ) as api:
        flag = api.get("/flags").json()["results"][0]
        answer = api.post(
            f"/flags/{flag['id']}/extend",
            json={"lease_seconds": SHORT_LEASE, "reason": "nearly over"},
            headers={"If-Match": f'"{flag["version"]}"'},
        )
        assert answer.status_code == 200, answer.text
