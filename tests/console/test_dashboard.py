"""The console's first page: what is switched, what is broken, and how to begin."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import Membership
from apps.core import clock
from apps.degradation import services
from apps.fleet.models import Environment
from apps.health.models import Check
from apps.publication.models import Revision
from apps.telemetry.models import InstanceState
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def here() -> Environment:
    return make.environment("here")


def running(where: Environment, *, state: str = "closed") -> None:
    instance = make.instance(make.service(where))
    breaker = {"state": state, "since": clock.now().isoformat(), "generation": 1, "override": None}
    InstanceState.objects.create(
        instance=instance, breakers={"payments-api": breaker}, reported_at=clock.now()
    )


class TestAFreshInstall:
    def test_it_says_how_to_connect_the_first_service(self, here: Environment) -> None:
        text = make.browser().get("/admin/").text

        assert "Connect your first service" in text
        assert "createtoken --environment here" in text
        assert "export HOLDFAST_URL=http://testserver" in text

    def test_the_lines_to_copy_are_a_program(self, here: Environment) -> None:
        text = make.browser().get("/admin/").text.replace("&quot;", '"')
        program = re.search(r"<code>(from holdfast import Holdfast.*?)</code>", text, re.DOTALL)

        assert program is not None
        compile(program[1], "first_service.py", "exec")

    def test_who_may_not_make_tokens_is_not_sent_there(self, here: Environment) -> None:
        address = reverse("admin:accounts_apitoken_new")

        assert address in make.browser().get("/admin/").text
        assert address not in make.browser(make.member(here, "viewer")).get("/admin/").text

    def test_a_service_that_came_and_went_has_been_heard(self, here: Environment) -> None:
        make.instance(make.service(here), ago=3600, stopping=True)

        assert "Connect your first service" not in make.browser().get("/admin/").text

    def test_without_an_environment_a_keeper_makes_one(self) -> None:
        assert reverse("admin:fleet_environment_new") in make.browser().get("/admin/").text

    def test_without_a_role_one_is_told_whom_to_ask(self, here: Environment) -> None:
        text = make.browser(make.user()).get("/admin/").text

        assert "Ask an administrator" in text
        assert "here" not in re.sub(r"<[^>]+>", "", text).split("Ask an administrator")[0]


class TestWhatIsSwitched:
    def test_a_flag_shows_why_who_and_the_way_to_end_it(self, here: Environment) -> None:
        flag = make.engaged(here, "read-only", kind="read_only")

        text = make.browser(make.member(here)).get("/admin/").text

        assert 'data-flag="read-only"' in text
        assert "primary failing over" in text
        assert reverse("admin:degradation_flag_end", args=[flag.pk]) in text
        assert "data-ends=" in text

    def test_an_override_shows_with_the_way_to_end_it(self, here: Environment) -> None:
        override = make.override(make.scope(dependency=make.dependency(here, "redis")))

        text = make.browser(make.member(here)).get("/admin/").text

        assert 'data-override="redis"' in text
        assert reverse("admin:policies_override_end", args=[override.pk]) in text

    def test_a_viewer_is_not_offered_the_end(self, here: Environment) -> None:
        flag = make.engaged(here)

        text = make.browser(make.member(here, "viewer")).get("/admin/").text

        assert reverse("admin:degradation_flag_end", args=[flag.pk]) not in text

    def test_an_ended_flag_is_gone(self, here: Environment) -> None:
        running(here)
        make.flag(here, "off-flag")

        text = make.browser().get("/admin/").text

        assert 'data-flag="off-flag"' not in text
        assert "Nothing is degraded on purpose" in text


class TestWhatIsBroken:
    def test_open_breakers_are_named(self, here: Environment) -> None:
        running(here, state="open")

        assert 'data-state="open"' in make.browser().get("/admin/").text

    def test_closed_ones_are_not(self, here: Environment) -> None:
        running(here)

        assert "every breaker that reports is closed" in make.browser().get("/admin/").text

    def test_checks_that_are_down_are_named_with_why(self, here: Environment) -> None:
        running(here)
        Check.objects.filter(pk=make.check(here, name="orders-db").pk).update(
            status="down", since=clock.now(), detail="connection refused"
        )

        text = make.browser().get("/admin/").text

        assert 'data-check="orders-db" data-status="down"' in text
        assert "connection refused" in text

    def test_alerts_that_fire_are_named(self, here: Environment) -> None:
        running(here)
        make.alert(make.alert_rule(here))

        assert "data-alert=" in make.browser().get("/admin/").text

    def test_silent_instances_are_named(self, here: Environment) -> None:
        service = make.service(here)
        instance = make.instance(service, ago=600)
        InstanceState.objects.create(instance=instance, reported_at=instance.heard_at)

        assert "1 silent" in make.browser().get("/admin/").text


class TestWhatWasChanged:
    def test_a_late_switch_can_be_taken_back(self, here: Environment) -> None:
        running(here)
        flag = make.flag(here)
        services.engage_flag(
            flag.pk, version=None, lease=None, reason="too slow", actor=make.actor(here)
        )

        text = make.browser().get("/admin/").text

        assert f'href="{reverse("admin:degradation_flag_end", args=[flag.pk])}">Undo' in text

    def test_what_was_taken_back_is_offered_the_other_way(self, here: Environment) -> None:
        running(here)
        flag, actor = make.flag(here), make.actor(here)
        services.engage_flag(flag.pk, version=None, lease=None, reason="slow", actor=actor)
        services.end_flag(flag.pk, version=None, reason="well again", actor=actor)

        text = make.browser().get("/admin/").text

        assert text.count(">Undo<") == 1
        assert reverse("admin:degradation_flag_engage", args=[flag.pk]) in text

    def test_settings_go_back_to_the_revision_before(self, here: Environment) -> None:
        running(here)
        make.config("timeout", make.scope(here), attempt_seconds=5.0)
        earlier = Revision.objects.latest("number")
        make.config("retry", make.scope(here), attempts=2)

        text = make.browser().get("/admin/").text

        assert reverse("admin:publication_revision_rollback", args=[earlier.pk]) in text

    def test_an_older_change_is_only_shown(self, here: Environment) -> None:
        running(here)
        flag = make.flag(here)
        with clock.use(lambda: datetime.now(UTC) - timedelta(minutes=16)):
            services.engage_flag(
                flag.pk, version=None, lease=None, reason="slow", actor=make.actor(here)
            )

        text = make.browser().get("/admin/").text

        assert "flag.engaged" in text
        assert ">Undo<" not in text

    def test_a_viewer_is_offered_no_way_back(self, here: Environment) -> None:
        running(here)
        flag = make.flag(here)
        services.engage_flag(
            flag.pk, version=None, lease=None, reason="slow", actor=make.actor(here)
        )

        assert ">Undo<" not in make.browser(make.member(here, "viewer")).get("/admin/").text


class TestWhatWaits:
    def test_dead_letters_are_counted_by_service(self, here: Environment) -> None:
        running(here)
        make.letters(make.service(here, "orders"), "a", "b")

        assert 'data-service="orders" data-unresolved="2"' in make.browser().get("/admin/").text

    def test_a_failing_dependency_can_be_forced_open_everywhere(self, here: Environment) -> None:
        running(here, state="open")
        dependency = make.dependency(here, "payments-api")

        text = make.browser().get("/admin/").text.replace("&amp;", "&")

        address = reverse("admin:policies_override_engage")
        assert f"{address}?environment={here.pk}&dependency={dependency.pk}" in text


class TestEnvironments:
    def test_only_ones_own_are_shown(self, here: Environment) -> None:
        elsewhere = make.environment("elsewhere")
        make.engaged(elsewhere, "secret-flag")

        text = make.browser(make.member(here)).get("/admin/?environment=elsewhere").text

        assert "secret-flag" not in text
        assert "elsewhere" not in text

    def test_one_is_chosen_by_its_name(self, here: Environment) -> None:
        person = make.member(here)
        there = make.environment("there")
        Membership.objects.create(user=person, environment=there, role="viewer")
        make.engaged(there, "flag-of-there")

        text = make.browser(person).get("/admin/?environment=there").text

        assert "flag-of-there" in text
        assert re.search(r'href="\?environment=there"\s+aria-current="page"', text)

    def test_another_environments_changes_are_not_listed(self, here: Environment) -> None:
        running(here)
        make.engaged(make.environment("there"), "flag-of-there")

        assert "flag-of-there" not in make.browser().get("/admin/?environment=here").text


def test_the_number_of_queries_does_not_grow() -> None:
    here = make.environment("here")
    browser = make.browser()
    running(here)
    make.engaged(here)
    make.override(make.scope(dependency=make.dependency(here)))
    browser.get("/admin/")
    with CaptureQueriesContext(connection) as few:
        browser.get("/admin/")
    for _ in range(4):
        running(here, state="open")
        make.engaged(here)
        make.override(make.scope(dependency=make.dependency(here)))
    browser.get("/admin/")  # reads what is new

    with CaptureQueriesContext(connection) as many:
        browser.get("/admin/")

    assert len(many) <= len(few) + 1  # one more if ten seconds were over in between


class TestNavigation:
    def test_it_links_every_section(self, here: Environment) -> None:
        text = make.browser().get("/admin/").text

        for section in ("Degradation", "Policies", "Fleet", "Delivery", "Audit"):
            assert section in text

    def test_every_link_opens(self, here: Environment) -> None:
        browser = make.browser()
        text = browser.get("/admin/").text
        nav = text[text.index('id="nav-sidebar-apps"') : text.index('id="main"')]
        links = set(re.findall(r'href="(/[^"]*)"', nav))

        answers = {link: browser.get(link).status_code for link in links}

        assert len(links) > 10
        assert set(answers.values()) == {200}, answers
