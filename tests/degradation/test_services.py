"""What the services of flags promise, without a door in front of them."""

from datetime import timedelta

import pytest

from apps.audit.models import Entry
from apps.degradation import services
from apps.publication.models import Fragment
from tests import make

HALF_HOUR = timedelta(minutes=30)


@pytest.mark.django_db
class TestEngageFlag:
    def test_engaged_flag_is_published_and_audited(self) -> None:
        place = make.environment()
        actor = make.actor(place)
        flag = services.create_flag("read-only", kind="read_only", actor=actor)

        services.engage_flag(
            flag.pk, version=1, lease=HALF_HOUR, reason="primary failing over", actor=actor
        )

        fragment = Fragment.objects.current().get(environment=place)
        assert (fragment.part, fragment.name, fragment.service) == ("flag", "read-only", "")
        assert fragment.body["enabled"] is True
        assert fragment.body["reason"] == "primary failing over"
        entry = Entry.objects.get(action="flag.engaged")
        assert entry.revision == fragment.revision
        assert entry.reason == "primary failing over"
