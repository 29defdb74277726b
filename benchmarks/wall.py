"""A wall of 500 services with 20 dependencies: first paint, flip to pixels, the cost of viewers.

`python -m benchmarks.wall`: PostgreSQL and Redis, so that the web process does nothing else than
serve; a tenth of the services report each second. Flags are flipped while 200 light viewers and
one Chromium look: from the commit until a viewer's bytes were read, and until Chromium has painted.
Then what the web process uses for a frame with 1, 50 and 200 viewers, less what it uses without.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import httpx
import psutil
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.flip import STAMPS, Api, delays_of, quantile
from benchmarks.ingest import ROOT, manage, serving
from benchmarks.streams import process_on
from deploy.local_servers import PostgreSQL, Redis

ENVIRONMENT = "bench"  # as in benchmarks.fleet, which needs Django
VIEWERS = (1, 50, 200)
PAINTS = 5
ROUNDS = 5
SECONDS = 15.0  # of each measurement of CPU
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu"]
WATCH = """
window.painted = [];
window.late = [];
new PerformanceObserver((list) => {
    for (const each of list.getEntries()) window.late.push(each.duration);
}).observe({ type: "longtask", buffered: true });
addEventListener("DOMContentLoaded", () => {
    const wall = document.querySelector("status-wall");
    const afterwards = new MessageChannel();
    afterwards.port1.onmessage = ({ data }) => window.painted.push([data, Date.now() / 1000]);
    new MutationObserver(() => {
        const { revision } = wall.frame;
        requestAnimationFrame(() => afterwards.port2.postMessage(revision));
    }).observe(wall.querySelector('[data-part="switches"]'), { childList: true });
});
"""


@contextmanager
def fleet(environment: dict[str, str], *size: int) -> Iterator[None]:
    """It is alive meanwhile."""
    command = [sys.executable, "-m", "benchmarks.fleet", *map(str, size)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError("there is no fleet")
    try:
        yield
    finally:
        process.communicate("", timeout=60)


class Lookers:
    """A process of light viewers."""

    def __init__(self, port: int, cookie: str, number: int) -> None:
        url = f"ws://127.0.0.1:{port}/ws/wall/?environment={ENVIRONMENT}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.lookers", url, cookie, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("the viewers did not get a frame")

    def end(self) -> dict[str, Any]:
        said, _nothing = self._process.communicate("", timeout=60)
        return dict(json.loads(said))


def cookie_of(port: int, token: str) -> str:
    """What a screen keeps after its token was swapped."""
    answer = httpx.get(f"http://127.0.0.1:{port}/wall/", params={"token": token})
    return f"holdfast_kiosk={answer.cookies['holdfast_kiosk']}"


def open_wall(context: BrowserContext, port: int) -> Page:
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/wall/?environment={ENVIRONMENT}")
    while not page.evaluate("document.querySelector('status-wall').frame?.sequence > 0"):
        time.sleep(0.1)  # the page's policy lets nothing wait in it
    return page


def screen(browser: Browser, port: int, cookie: str) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1920, "height": 1080})
    name, _equals, value = cookie.partition("=")
    url = f"http://127.0.0.1:{port}"
    context.add_cookies([{"name": name, "value": value, "url": url}])
    context.add_init_script(WATCH)
    return context


def first_paints(browser: Browser, port: int, cookie: str) -> None:
    """Of browsers that see the page for the first time; nobody else looks."""
    paints = []
    for _number in range(PAINTS):
        context = screen(browser, port, cookie)
        page = open_wall(context, port)
        entry = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        paints.append(page.evaluate(entry))
        context.close()
    print(f"first paint: {median(paints):.0f} ms, longest {max(paints):.0f} ms", flush=True)


def flip(api: Api, times: int) -> None:
    status, body, etag = api.post("flags", b'{"key": "bench-wall", "kind": "custom"}')
    flag = json.loads(body)["id"]
    for number in range(times):
        action = "end" if number % 2 else "engage"
        status, body, etag = api.post(f"flags/{flag}/{action}", b'{"reason": "bench"}', etag)
        if status != 200:
            raise RuntimeError(f"{action}: {status} {body!r}")
        time.sleep(random.uniform(0.6, 1.4))  # at any moment between two frames


def flips(
    environment: dict[str, str],
    browser: Browser,
    port: int,
    tokens: dict[str, str],
    cookie: str,
    *,
    viewers: int,
    times: int,
) -> None:
    context = screen(browser, port, cookie)
    page = open_wall(context, port)
    crowd = Lookers(port, cookie, viewers)
    known = max(stamps_of(environment))
    flip(Api(port, tokens["operator"]), times)
    had = crowd.end()["had"]
    painted = [(revision, at) for revision, at in page.evaluate("window.painted")]
    late = page.evaluate("window.late")
    context.close()
    at = {number: when for number, when in stamps_of(environment).items() if number > known}
    every = [delay for one in had for delay in delays_of(at, first_of(one))]
    show(f"{viewers} viewers have it", every, times * viewers)
    show("Chromium has painted it", delays_of(at, first_of(painted)), times)
    longest = f"longest {max(late):.0f} ms" if late else "none"
    print(f"tasks of more than 50 ms in Chromium meanwhile: {len(late)}, {longest}", flush=True)


def first_of(had: list[Any]) -> dict[int, float]:
    return {int(revision): at for revision, at in reversed(had)}


def show(what: str, delays: list[float], number: int) -> None:
    print(
        f"{what:24} n={len(delays)} of {number}  p50 {quantile(delays, 0.5):6.1f} ms  "
        f"p95 {quantile(delays, 0.95):6.1f} ms  max {max(delays):6.1f} ms",
        flush=True,
    )


def stamps_of(environment: dict[str, str]) -> dict[int, float]:
    found = manage(environment, "shell", "--verbosity", "0", "--command", STAMPS)
    return {int(number): at for number, at in json.loads(found).items()}


def costs(server: psutil.Process, port: int, tokens: dict[str, str], cookie: str) -> None:
    """CPU of the web process for one frame, by number of viewers.

    What its threads used to compute frames, by its own metrics; and what its event loop used to
    serialise and to send them, less what that uses without viewers.
    """
    idle = loop_of(server)
    time.sleep(SECONDS)
    idle = loop_of(server) - idle
    computed: dict[int, list[float]] = {number: [] for number in VIEWERS}
    sent: dict[int, list[float]] = {number: [] for number in VIEWERS}
    for _number in range(ROUNDS):
        for number in VIEWERS:
            frames, threads = frames_of(port, tokens["metrics"])
            crowd = Lookers(port, cookie, number)
            loop = loop_of(server)
            time.sleep(SECONDS)
            loop = loop_of(server) - loop
            told = crowd.end()
            all_frames, all_threads = frames_of(port, tokens["metrics"])
            computed[number].append((all_threads - threads) / (all_frames - frames))
            sent[number].append((loop - idle) / told["frames"])
    for number in VIEWERS:
        rounds = " ".join(f"{1000 * each:.0f}" for each in computed[number])
        print(
            f"{number:4} viewers: {1000 * median(computed[number]):6.1f} ms of CPU to compute a "
            f"frame ({rounds}), {1000 * median(sent[number]):6.1f} ms to serialise and send it",
            flush=True,
        )
    print(f"{told['bytes'] / told['frames'] / 1000:.1f} kB of a frame to each", flush=True)


def loop_of(server: psutil.Process) -> float:
    """Seconds of CPU that its first thread has used."""
    threads = {each.id: each.user_time + each.system_time for each in server.threads()}
    return float(threads[server.pid])


def frames_of(port: int, token: str) -> tuple[float, float]:
    """How many frames it has computed, and the seconds of CPU they took."""
    url = f"http://127.0.0.1:{port}/metrics"
    told = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).text
    number, took = (
        re.search(rf"^web_wall_frame_cpu_seconds_{name}{{.*}} (.*)$", told, re.MULTILINE)
        for name in ("count", "sum")
    )
    assert number is not None
    assert took is not None
    return float(number[1]), float(took[1])


def measure(
    environment: dict[str, str], browser: Browser, *, services: int, dependencies: int, times: int
) -> None:
    manage(environment, "migrate", "--verbosity", "0")
    made = ("createtoken", "--environment", ENVIRONMENT)
    tokens = {
        "kiosk": manage(environment, *made, "--scope", "wall:read"),
        "metrics": manage(environment, *made, "--scope", "metrics:read"),
        "operator": manage(environment, *made, "--scope", "flags:write", "--scope", "config:read"),
    }
    with fleet(environment, services, dependencies), serving(environment) as port:
        cookie = cookie_of(port, tokens["kiosk"])
        first_paints(browser, port, cookie)
        viewers = max(VIEWERS)
        flips(environment, browser, port, tokens, cookie, viewers=viewers, times=times)
        costs(process_on(port), port, tokens, cookie)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--dependencies", type=int, default=20)
    parser.add_argument("--times", type=int, default=40)
    chosen = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with ExitStack() as stack:
        var = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER_FLAGS)
        stack.callback(browser.close)
        environment = os.environ | {
            "HOLDFAST_VAR": var,
            "SECRET_KEY": "bench",
            "SECURE_COOKIES": "0",
            "DATABASE_URL": stack.enter_context(PostgreSQL()).url,
            "REDIS_URL": stack.enter_context(Redis()).url,
        }
        measure(environment, browser, **vars(chosen))


if __name__ == "__main__":
    main()
