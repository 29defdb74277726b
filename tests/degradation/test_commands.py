"""`manage.py engage` and `end`: for when nobody can log in."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.audit.models import Entry
from apps.degradation.models import Flag
from tests import make


def run(name: str, key: str, **options: Any) -> str:
    output = StringIO()
    call_command(name, key, stdout=output, **{"reason": "no login", **options})
    return output.getvalue()


@pytest.mark.django_db
class TestEngage:
    def test_read_only_is_made_and_engaged(self) -> None:
        place = make.environment("production")

        said = run("engage", "read-only", environment="production", lease="30m")

        flag = Flag.objects.get(environment=place)
        assert flag.is_engaged
        assert "read-only in production is engaged until" in said
        entry = Entry.objects.get(action="flag.engaged")
        assert (entry.actor_kind, entry.reason) == ("command", "no login")

    def test_of_one_service(self) -> None:
        service = make.service(slug="checkout")

        run("engage", "read-only", environment=service.environment.slug, service="checkout")

        assert Flag.objects.get().service == service

    def test_until_somebody_ends_it(self) -> None:
        flag = make.flag(key="simple-replies", kind="feature_off")

        said = run(
            "engage", "simple-replies", environment=flag.environment.slug, lease="until-ended"
        )

        assert "until somebody ends it" in said

    @pytest.mark.parametrize(
        ("key", "options", "said"),
        [
            ("read-only", {"environment": "nowhere"}, "no environment nowhere"),
            ("read-only", {"service": "nobody"}, "no service called nobody"),
            ("other", {}, "There is no flag"),
            ("read-only", {"lease": "soon"}, "not a time such as"),
            ("read-only", {"lease": "8d"}, "between 60 seconds and 7 days"),
            ("read-only", {"lease": "99999w"}, "between 60 seconds and 7 days"),
            ("read-only", {"reason": " "}, "Say why"),
        ],
    )
    def test_says_what_is_wrong(self, key: str, options: dict[str, Any], said: str) -> None:
        make.environment("production")

        with pytest.raises(CommandError, match=said):
            run("engage", key, **{"environment": "production", **options})

        assert not Flag.objects.exists()

    def test_one_engaged_already_is_an_error(self) -> None:
        flag = make.engaged(key="read-only")

        with pytest.raises(CommandError, match="engaged already"):
            run("engage", "read-only", environment=flag.environment.slug)


@pytest.mark.django_db
class TestEnd:
    def test_ends_and_says_so(self) -> None:
        flag = make.engaged(key="read-only")

        said = run("end", "read-only", environment=flag.environment.slug)

        flag.refresh_from_db()
        assert not flag.enabled
        assert said.strip() == f"read-only in {flag.environment} is ended."

    def test_one_that_is_off_is_an_error(self) -> None:
        flag = make.flag(key="read-only")

        with pytest.raises(CommandError, match="not engaged"):
            run("end", "read-only", environment=flag.environment.slug)
