"""The wall's socket: who is let in, what comes and when, and who is shown out."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
import structlog
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.test import Client
from prometheus_client import REGISTRY

from apps.accounts import services as accounts
from apps.accounts.models import ApiToken, Membership, User
from apps.core import bus, clock
from apps.fleet.models import Environment
from apps.live import frames, selectors
from tests import make
from tests.live.sockets import kiosk, looking

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]
LONG = 60.0  # an interval no test waits for: what comes earlier came because of news


@pytest.fixture
def here() -> Environment:
    return make.environment("here")


@pytest.fixture
def viewer(here: Environment) -> Client:
    return make.browser(make.member(here, "viewer"))


@pytest.fixture
def only_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """No frame comes by itself within a test."""
    monkeypatch.setattr(frames, "INTERVAL_SECONDS", LONG)


@sync_to_async
def publish(where: Environment, key: str) -> int:
    return make.publish(where, make.flag_piece(key)).number


def at_revision(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda frame: bool(frame["revision"] == number)


class TestFrames:
    async def test_a_frame_comes_on_connect(self, here: Environment, viewer: Client) -> None:
        await sync_to_async(make.service)(here, "checkout")

        async with looking(viewer, "environment=here") as socket:
            frame = await socket.frame_where(lambda frame: True)

        assert frame["type"] == "frame"
        assert frame["sequence"] == 1
        assert frame["environment"]["slug"] == "here"
        assert [row["slug"] for row in frame["services"]] == ["checkout"]
        assert not frame["stale"]

    async def test_viewers_and_what_their_frames_cost_are_measured(
        self, here: Environment, viewer: Client
    ) -> None:
        def measured(name: str) -> float:
            return REGISTRY.get_sample_value(f"web_wall_{name}") or 0.0

        viewers, frames_before = measured("viewers"), measured("frame_cpu_seconds_count")
        cpu = measured("frame_cpu_seconds_sum")

        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            during = measured("viewers")

        assert (during, measured("viewers")) == (viewers + 1, viewers)
        assert measured("frame_cpu_seconds_count") > frames_before
        assert measured("frame_cpu_seconds_sum") > cpu

    async def test_without_a_name_the_first_environment_is_shown(
        self, here: Environment, viewer: Client
    ) -> None:
        async with looking(viewer) as socket:
            frame = await socket.frame_where(lambda frame: True)

        assert frame["environment"]["slug"] == "here"

    async def test_frames_come_by_themselves(self, here: Environment, viewer: Client) -> None:
        async with looking(viewer, "environment=here") as socket:
            frame = await socket.frame_where(lambda frame: frame["sequence"] >= 2)

        assert frame["as_of"] > socket.frames[0]["as_of"]

    @pytest.mark.usefixtures("only_news")
    async def test_what_is_published_comes_at_once(self, here: Environment, viewer: Client) -> None:
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: frame["revision"] == 0)
            number = await publish(here, "read-only")
            frame = await socket.frame_where(lambda frame: frame["revision"] == number)

        assert [each["key"] for each in frame["switches"]] == ["read-only"]
        assert frame["switches"][0]["reason"] == "primary failing over"

    @pytest.mark.usefixtures("only_news")
    async def test_what_instances_say_comes_at_once(
        self, here: Environment, viewer: Client
    ) -> None:
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            bus.get().send("telemetry", {"environment_id": here.pk, "reason": "breaker"})
            frame = await socket.frame_where(lambda frame: frame["sequence"] == 2)

        assert frame["sequence"] == 2

    @pytest.mark.usefixtures("only_news")
    async def test_news_of_elsewhere_makes_no_frame(
        self, here: Environment, viewer: Client
    ) -> None:
        elsewhere = await sync_to_async(make.environment)("elsewhere")
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            await publish(elsewhere, "read-only")
            await publish(here, "read-only")
            await socket.frame_where(lambda frame: frame["revision"] == 1)

        assert [frame["revision"] for frame in socket.frames[:2]] == [0, 1]

    @pytest.mark.usefixtures("only_news")
    async def test_a_burst_of_news_makes_few_frames(
        self, here: Environment, viewer: Client
    ) -> None:
        loop = asyncio.get_running_loop()
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            started = loop.time()
            for number in range(20):
                await publish(here, f"flag-{number}")
            await socket.frame_where(lambda frame: frame["revision"] == 20)
            elapsed = loop.time() - started

        most = 3 + elapsed / frames.COALESCE_SECONDS  # pictures, and as many of what is switched
        assert len(socket.frames) <= 2 * most

    async def test_the_lights_go_out_with_the_last_viewer(
        self, here: Environment, viewer: Client
    ) -> None:
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            feed = frames.of(here.pk)
            assert feed.viewers == 1
        computed = feed.computed
        await publish(here, "read-only")
        await asyncio.sleep(0)

        assert feed.viewers == 0
        assert feed.computed == computed


@pytest.mark.usefixtures("only_news")
class TestFlipWhileAPictureIsMade:
    @pytest.mark.usefixtures("only_news")
    async def test_it_is_shown_before_the_picture_and_not_taken_back_by_it(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, released = threading.Event(), threading.Event()
        original = selectors.picture

        def slow(*arguments: Any) -> dict[str, Any]:
            found = original(*arguments)
            begun.set()
            released.wait(10)
            return found

        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            monkeypatch.setattr(selectors, "picture", slow)
            bus.get().send("telemetry", {"environment_id": here.pk, "reason": "breaker"})
            await asyncio.to_thread(begun.wait, 10)
            number = await publish(here, "read-only")
            flipped = await socket.frame_where(at_revision(number))
            released.set()
            later = await socket.frame_where(lambda frame: frame["as_of"] > flipped["as_of"])

        assert [each["key"] for each in flipped["switches"]] == ["read-only"]
        assert flipped["summary"]["flags"] == 1
        assert flipped["as_of"] == socket.frames[0]["as_of"]  # the rest is as it was
        assert (later["revision"], later["switches"]) == (number, flipped["switches"])
        assert later["summary"]["flags"] == 1

    @pytest.mark.usefixtures("only_news")
    async def test_a_flip_that_cannot_be_read_leaves_the_wall_as_it_is(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_arguments: object) -> None:
            raise OperationalError("the server closed the connection unexpectedly")

        monkeypatch.setattr(selectors, "flipped", fail)
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            number = await publish(here, "read-only")
            frame = await socket.frame_where(at_revision(number))  # the picture has it

        assert [each["key"] for each in frame["switches"]] == ["read-only"]


class TestManyViewers:
    @pytest.mark.usefixtures("only_news")
    async def test_two_hundred_viewers_cost_one_computation(
        self, here: Environment, viewer: Client
    ) -> None:
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(looking(viewer, "environment=here"))
                for _ in range(200)
            ]
            for socket in sockets:
                await socket.frame_where(lambda frame: True)
            feed = frames.of(here.pk)
            assert feed.viewers == 200
            before, made_at = feed.computed, sockets[0].frames[-1]["as_of"]
            await publish(here, "read-only")
            for socket in sockets:
                await socket.frame_where(
                    lambda frame: frame["revision"] == 1 and frame["as_of"] > made_at
                )
            assert feed.computed == before + 1

    async def test_a_slow_viewer_skips_to_the_newest(
        self, here: Environment, viewer: Client
    ) -> None:
        async with (
            looking(viewer, "environment=here") as slow,
            looking(viewer, "environment=here") as quick,
        ):
            await slow.frame_where(lambda frame: True)
            slow.reads.clear()
            for number in range(1, 9):
                await publish(here, f"flag-{number}")
                await quick.frame_where(at_revision(number))
            await asyncio.wait_for(slow.is_sending.wait(), 5)
            taken = len(slow.frames)
            slow.reads.set()
            await slow.frame_where(lambda frame: frame["revision"] == 8)

        # The one that was stuck on the line, and the newest: nothing was kept for it in between.
        assert [frame["revision"] for frame in slow.frames].index(8) <= taken + 1
        assert len(quick.frames) >= 8


@pytest.mark.usefixtures("only_news")
class TestWhatChanged:
    async def test_only_the_first_frame_is_whole(self, here: Environment, viewer: Client) -> None:
        await sync_to_async(make.service)(here, "checkout")

        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            for number in range(1, 4):
                await publish(here, f"flag-{number}")
                last = await socket.frame_where(at_revision(number))

        assert socket.deltas == len(socket.frames) - 1
        assert [row["slug"] for row in last["services"]] == ["checkout"]  # put in, change by change

    async def test_whoever_comes_back_gets_a_whole_one(
        self, here: Environment, viewer: Client
    ) -> None:
        async with looking(viewer, "environment=here") as stays:
            async with looking(viewer, "environment=here") as goes:
                await goes.frame_where(lambda frame: True)
            await publish(here, "read-only")
            await stays.frame_where(at_revision(1))
            async with looking(viewer, "environment=here") as back:
                frame = await back.frame_where(at_revision(1))

        assert back.deltas == 0
        assert frame["switches"] == stays.frames[-1]["switches"]

    async def test_it_is_serialised_once_for_all_who_stand_at_the_same_frame(
        self, here: Environment, viewer: Client
    ) -> None:
        async with (
            looking(viewer, "environment=here") as one,
            looking(viewer, "environment=here") as other,
        ):
            await one.frame_where(lambda frame: True)
            await other.frame_where(lambda frame: True)
            await publish(here, "read-only")
            await one.frame_where(at_revision(1))
            await other.frame_where(at_revision(1))

        assert one.texts[-1] is other.texts[-1]

    async def test_who_does_not_show_frames_gets_no_more_and_then_the_newest(
        self, here: Environment, viewer: Client
    ) -> None:
        """Its line may be slow, and hold many frames on the way without a word of it here."""
        async with (
            looking(viewer, "environment=here", answers=False) as slow,
            looking(viewer, "environment=here") as quick,
        ):
            await slow.frame_where(lambda frame: True)
            for number in range(1, 6):
                await publish(here, f"flag-{number}")
                await quick.frame_where(at_revision(number))
            taken = [frame["sequence"] for frame in slow.frames]
            slow.say(str(taken[-1]))
            newest = await slow.frame_where(at_revision(5))

        assert len(taken) == frames.MOST_UNSHOWN
        assert len(slow.frames) == len(taken) + 1
        assert newest == quick.frames[-1]

    async def test_who_missed_too_much_gets_a_whole_one(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(frames, "KEPT", 2)
        async with (
            looking(viewer, "environment=here", answers=False) as slow,
            looking(viewer, "environment=here") as quick,
        ):
            await slow.frame_where(lambda frame: True)
            for number in range(1, 7):
                await publish(here, f"flag-{number}")
                await quick.frame_where(at_revision(number))
            slow.say(str(slow.frames[-1]["sequence"]))
            await slow.frame_where(at_revision(6))

        assert json.loads(slow.texts[-1])["type"] == "frame"

    @pytest.mark.parametrize(
        "said", ["7", "0", "-1", "01", "1.0", "1 ", "", "null", "more, please", "1" * 5000, "١"]
    )
    async def test_nothing_else_may_be_said_to_it(
        self, here: Environment, viewer: Client, said: str
    ) -> None:
        async with looking(viewer, "environment=here", answers=False) as socket:
            await socket.frame_where(lambda frame: True)
            socket.say(said)
            await socket.until(lambda: socket.close_code is not None)

        assert socket.close_code == 1008

    async def test_a_frame_is_shown_once(self, here: Environment, viewer: Client) -> None:
        async with looking(viewer, "environment=here", answers=False) as socket:
            first = await socket.frame_where(lambda frame: True)
            socket.say(str(first["sequence"]))
            socket.say(str(first["sequence"]))
            await socket.until(lambda: socket.close_code is not None)

        assert socket.close_code == 1008


class TestWhoIsLetIn:
    async def refused(self, browser: Client, query: str = "environment=here") -> bool:
        async with looking(browser, query) as socket:
            return not socket.is_accepted

    async def test_nobody_is_refused(self, here: Environment) -> None:
        assert await self.refused(Client())

    async def test_another_environment_is_refused(self, here: Environment, viewer: Client) -> None:
        await sync_to_async(make.environment)("elsewhere")

        assert await self.refused(viewer, "environment=elsewhere")
        assert await self.refused(viewer, "environment=nowhere")

    async def test_a_person_without_a_role_is_refused(self, here: Environment) -> None:
        browser = await sync_to_async(lambda: make.browser(make.user()))()

        assert await self.refused(browser)

    async def test_a_page_of_another_site_is_refused(
        self, here: Environment, viewer: Client
    ) -> None:
        async with looking(viewer, "environment=here", origin="http://evil.example") as socket:
            assert not socket.is_accepted

    async def test_a_kiosk_is_let_in(self, here: Environment) -> None:
        browser = await self.kiosk(here, scopes=["wall:read"])

        async with looking(browser, "environment=here") as socket:
            assert (await socket.frame_where(lambda frame: True))["environment"]["slug"] == "here"

    async def test_a_kiosk_sees_its_own_environment_only(self, here: Environment) -> None:
        await sync_to_async(make.environment)("elsewhere")
        browser = await self.kiosk(here, scopes=["wall:read"])

        assert await self.refused(browser, "environment=elsewhere")

    async def test_a_token_without_the_scope_is_refused(self, here: Environment) -> None:
        assert await self.refused(await self.kiosk(here, scopes=["config:read"]))

    @pytest.mark.parametrize(
        "change",
        [
            {"expires_at": timedelta(seconds=1)},
            {"revoked_at": timedelta(0)},
            {"scopes": ["config:read"]},
        ],
        ids=["expired", "revoked", "narrowed"],
    )
    async def test_a_cookie_is_worth_what_its_token_is(
        self, here: Environment, change: dict[str, Any]
    ) -> None:
        browser = await self.kiosk(here, scopes=["wall:read"])
        now = clock.now()
        values = {
            name: now + value if isinstance(value, timedelta) else value
            for name, value in change.items()
        }
        await sync_to_async(ApiToken.objects.update)(**values)

        with clock.use(lambda: now + timedelta(seconds=2)):
            assert await self.refused(browser)

    async def test_a_forged_cookie_is_refused(self, here: Environment) -> None:
        browser = await self.kiosk(here, scopes=["wall:read"])
        browser.cookies["holdfast_kiosk"] = browser.cookies["holdfast_kiosk"].value[:-1] + "x"

        assert await self.refused(browser)

    @sync_to_async
    def kiosk(self, where: Environment, *, scopes: list[str]) -> Client:
        return kiosk(make.token(where, scopes=scopes)[1])


def log_out(browser: Client) -> None:
    browser.logout()


def deactivate(_browser: Client) -> None:
    User.objects.update(is_active=False)


def change_password(_browser: Client) -> None:
    person = User.objects.get()
    person.set_password("another one")
    person.save()


def withdraw_role(_browser: Client) -> None:
    Membership.objects.all().delete()


class TestWhoIsShownOut:
    @pytest.mark.parametrize("end", [log_out, deactivate, change_password, withdraw_role])
    async def test_a_person_who_may_not_look_any_more(
        self, here: Environment, viewer: Client, end: Callable[[Client], None]
    ) -> None:
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            await sync_to_async(end)(viewer)
            await socket.until(lambda: socket.close_code is not None)

        assert socket.close_code == 4403

    @pytest.mark.usefixtures("only_news")
    async def test_a_kiosk_whose_token_is_revoked_at_once(self, here: Environment) -> None:
        token, text = await sync_to_async(make.token)(here, scopes=["wall:read"])
        browser = await sync_to_async(kiosk)(text)
        async with looking(browser, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            await sync_to_async(accounts.revoke_token)(
                token.pk, version=None, reason="stolen", actor=make.actor(here)
            )
            await socket.until(lambda: socket.close_code is not None)

        assert socket.close_code == 4403


class TestWithoutTheDatabase:
    async def test_the_last_frame_is_repeated_and_marked(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with looking(viewer, "environment=here") as socket:
            first = await socket.frame_where(lambda frame: True)
            with monkeypatch.context() as patch:
                patch.setattr(selectors, "picture", self.fail)
                stale = await socket.frame_where(lambda frame: frame["stale"])
                place = socket.frames.index(stale)
            fresh = await socket.frame_where(lambda frame: not frame["stale"])

        last = socket.frames[place - 1]
        assert stale["as_of"] == last["as_of"]
        assert stale["services"] == first["services"]
        assert stale["server_time"] > last["server_time"]
        assert fresh["as_of"] > stale["as_of"]

    async def test_a_viewer_stays_while_nobody_can_say_whether_they_may(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with looking(viewer, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
            monkeypatch.setattr(selectors, "still_granted", self.fail)
            await socket.frame_where(lambda frame: frame["stale"])

            assert socket.close_code is None

    async def test_a_database_that_hangs_does_not_stop_the_wall(
        self, here: Environment, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(frames, "PATIENCE_SECONDS", 0.05)
        released = threading.Event()
        original = selectors.picture

        def hang(*arguments: Any) -> dict[str, Any]:
            released.wait(10)
            return original(*arguments)

        async with looking(viewer, "environment=here") as socket:
            first = await socket.frame_where(lambda frame: True)
            monkeypatch.setattr(selectors, "picture", hang)
            stale = await socket.frame_where(lambda frame: frame["stale"])
            released.set()
            fresh = await socket.frame_where(lambda frame: not frame["stale"])

        assert stale["as_of"] >= first["as_of"]
        assert fresh["as_of"] > stale["as_of"]

    def fail(self, *_arguments: object) -> None:
        raise OperationalError("the server closed the connection unexpectedly")


class TestAFrame:
    def test_it_is_json_of_what_it_holds(self) -> None:
        frame = frames.frame_of({"as_of": "2026-11-22T14:03:07.000Z", "services": []}, 3)

        assert json.loads(frame.text) == frame.content
        assert frame.content["sequence"] == 3


class TestLastUse:
    def test_of_a_kiosks_token_is_noted_when_it_is_swapped(self, here: Environment) -> None:
        token, text = make.token(here, scopes=["wall:read"])

        kiosk(text)

        token.refresh_from_db()
        assert token.last_used_at is not None

    async def test_of_a_kiosks_token_is_noted_while_it_looks(self, here: Environment) -> None:
        token, text = await sync_to_async(make.token)(here, scopes=["wall:read"])
        screen = await sync_to_async(kiosk)(text)
        await sync_to_async(ApiToken.objects.update)(last_used_at=None)

        async with looking(screen, "environment=here") as socket:
            await socket.frame_where(lambda frame: True)
        await sync_to_async(accounts.write_uses)()

        await sync_to_async(token.refresh_from_db)()
        assert token.last_used_at is not None


class TestLog:
    async def test_says_who_opens_and_closes_with_the_id_of_the_request(
        self, here: Environment, viewer: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        with structlog.contextvars.bound_contextvars(request_id="deploy-42"):
            async with looking(viewer, "environment=here") as socket:
                await socket.frame_where(lambda frame: True)

        told = [each.msg for each in caplog.records if isinstance(each.msg, dict)]
        walls = {each["event"]: each for each in told if each["event"].startswith("wall.")}
        assert set(walls) == {"wall.opened", "wall.closed"}
        assert {each["request_id"] for each in walls.values()} == {"deploy-42"}
        assert {each["environment_id"] for each in walls.values()} == {here.pk}
