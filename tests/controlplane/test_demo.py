"""What the demo finds in Holdfast, and when its dependencies fail."""

import json
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.accounts.models import ApiToken
from apps.accounts.selectors import find_token
from apps.audit.models import Entry
from apps.console.navigation import badge
from apps.degradation.models import Flag
from apps.fleet.models import Usage
from apps.health.models import Check
from apps.policies.models import RetryConfig
from apps.publication.models import Revision
from demo import plan, supervisor


class TestPreparing:
    @pytest.fixture(autouse=True)
    def prepared(self, db: None, settings: object, tmp_path: Path) -> Path:
        settings.VAR_DIR = tmp_path  # type: ignore[attr-defined]  # pytest-django's own
        call_command("preparedemo")
        return tmp_path / plan.FOLDER / "tokens.json"

    def test_presets_are_applied(self) -> None:
        assert RetryConfig.objects.get(dependency__slug="alpaca", service=None).attempts == 4

    def test_every_use_is_declared(self) -> None:
        declared = set(Usage.objects.values_list("service__slug", "dependency__slug"))

        assert declared == {
            (service.slug, name) for service in plan.SERVICES for name, _share in service.calls
        }

    def test_it_is_audited_as_a_command(self) -> None:
        assert set(Entry.objects.values_list("actor_kind", flat=True)) == {"command"}

    def test_tokens_open_their_service_only_and_are_nobody_elses(self, prepared: Path) -> None:
        kept = json.loads(prepared.read_text())

        tokens = {slug: find_token(text) for slug, text in kept.items()}
        assert {slug: token and str(token.service) for slug, token in tokens.items()} == {
            service.slug: service.slug for service in plan.SERVICES
        }
        assert prepared.stat().st_mode & 0o777 == 0o600

    def test_a_second_time_changes_nothing(self, prepared: Path) -> None:
        kept, revisions = prepared.read_text(), Revision.objects.count()

        call_command("preparedemo")

        assert prepared.read_text() == kept
        assert Revision.objects.count() == revisions

    def test_what_somebody_changed_stays_changed(self) -> None:
        RetryConfig.objects.filter(dependency__slug="alpaca").update(attempts=2)

        call_command("preparedemo")

        assert RetryConfig.objects.get(dependency__slug="alpaca", service=None).attempts == 2

    def test_a_lost_token_is_made_anew(self, prepared: Path) -> None:
        ApiToken.objects.all().delete()

        call_command("preparedemo")

        assert find_token(json.loads(prepared.read_text())["checkout"]) is not None

    def test_there_is_a_switch_to_try(self) -> None:
        assert Flag.objects.get(key=plan.FLAG).kind == Flag.Kind.FALLBACK


class TestChecks:
    @pytest.fixture(autouse=True)
    def var(self, db: None, settings: object, tmp_path: Path) -> Path:
        settings.VAR_DIR = tmp_path  # type: ignore[attr-defined]  # pytest-django's own
        call_command("preparedemo")
        return tmp_path

    def addresses(self) -> set[str]:
        return set(Check.objects.filter(enabled=True).values_list("address", flat=True))

    def test_they_ask_where_the_stand_ins_will_be(self, var: Path) -> None:
        port = supervisor.kept_port(var)

        names = ("alpaca", "binance", "gemini", "deepseek", "green-api")
        assert self.addresses() == {f"http://127.0.0.1:{port}/{name}/health" for name in names}

    def test_they_follow_when_the_port_was_taken_meanwhile(self, var: Path) -> None:
        before = self.addresses()

        with supervisor.listen(supervisor.kept_port(var)):
            call_command("preparedemo")

        assert len(self.addresses()) == len(before)
        assert not self.addresses() & before

    def test_what_somebody_aimed_elsewhere_stays_there(self) -> None:
        elsewhere = "http://localhost:9/"
        Check.objects.filter(name="alpaca").update(address=elsewhere)

        call_command("preparedemo")

        assert elsewhere in self.addresses()


class TestOutages:
    ALPACA = next(each for each in plan.DEPENDENCIES if each.slug == "alpaca")

    def outages(self, seed: int) -> list[int]:
        return [second for second in range(1200) if plan.is_out(self.ALPACA, second, seed)]

    def test_they_come_and_go(self) -> None:
        assert len(self.outages(1)) == pytest.approx(4 * 45, abs=4)  # one each 300 s

    def test_nothing_fails_at_the_start(self) -> None:
        failing = [
            dependency.slug
            for dependency in plan.DEPENDENCIES
            for second in range(20)
            if plan.is_out(dependency, second)
        ]

        assert failing == []

    def test_the_seed_decides_when(self) -> None:
        assert self.outages(1) == self.outages(1) != self.outages(2)

    def test_what_has_no_outage_never_fails_by_itself(self) -> None:
        redis = next(each for each in plan.DEPENDENCIES if each.slug == "redis")

        assert not any(plan.is_out(redis, second) for second in range(1000))


@pytest.mark.parametrize(("is_demo", "shown"), [(True, 1), (False, 0)])
def test_the_console_says_so(settings: object, is_demo: bool, shown: int) -> None:
    settings.DEMO = is_demo  # type: ignore[attr-defined]  # pytest-django's own

    assert len(badge(None) or []) == shown * 2  # type: ignore[arg-type]  # nothing of it is asked
