"""Marks on the time axis: made once, by those who may, and kept for a while."""

from datetime import timedelta
from typing import Any

import pytest

from apps.audit.models import Entry
from apps.core import clock
from apps.telemetry import markers, services
from apps.telemetry.models import Application, Marker
from tests import make

pytestmark = pytest.mark.django_db

URL = "/api/v1/markers"
DEPLOY = {"title": "checkout 2.4.1", "version": "2.4.1", "key": "pipeline-4711"}


def test_a_deployment_is_marked_now_and_audited() -> None:
    place = make.environment()
    make.service(place, "checkout")

    answer = make.client(place).post(URL, DEPLOY | {"service": "checkout"})

    assert answer.status_code == 201
    made = answer.json()
    assert (made["kind"], made["service"], made["version"]) == ("deploy", "checkout", "2.4.1")
    assert answer["Location"] == f"{URL}/{made['id']}"
    entry = Entry.objects.get(action="marker.created")
    assert (entry.object_label, entry.actor_label) == ("checkout 2.4.1", made["created_by"])


def test_a_repeated_request_marks_once() -> None:
    api = make.client()

    answers = [api.post(URL, DEPLOY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert Entry.objects.filter(action="marker.created").count() == 1


def test_a_key_is_not_used_for_something_else() -> None:
    api = make.client()
    api.post(URL, DEPLOY)

    answer = api.post(URL, DEPLOY | {"title": "search 9"})

    assert (answer.status_code, answer.json()["code"]) == (409, "key_used")
    assert Marker.objects.count() == 1


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"title": ""}, "title"),
        ({"kind": "party"}, "kind"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "ftp://example.com/x"}, "url"),
        ({"at": "2020-01-01T00:00:00Z"}, "at"),
        ({"at": "2126-01-01T00:00:00Z"}, "at"),
        ({"colour": "red"}, "colour"),
        ({"service": "nobody"}, "service"),
    ],
    ids=range(8),
)
def test_what_cannot_be_meant_is_refused(members: dict[str, Any], named: str) -> None:
    answer = make.client().post(URL, DEPLOY | members)

    assert answer.status_code == 400
    assert named in answer.json()["errors"]
    assert not Marker.objects.exists()


def test_a_services_token_marks_its_own_only() -> None:
    service = make.service(slug="checkout")
    api = make.client(of=service, scopes=["markers:write", "config:read"])

    own = api.post(URL, {"title": "mine", "service": "checkout"})
    everywhere = api.post(URL, {"title": "all"})

    assert (own.status_code, everywhere.status_code) == (201, 403)


def test_a_mark_is_taken_back() -> None:
    place = make.environment()
    row = make.marker(place)
    api = make.client(place)

    gone = api.delete(f"{URL}/{row.pk}", headers={"If-Match": '"1"'})

    assert gone.status_code == 204
    assert api.get(f"{URL}/{row.pk}").status_code == 404
    assert Entry.objects.filter(action="marker.deleted").exists()


def test_old_ones_go_and_so_does_what_instances_ran() -> None:
    row, service = make.marker(), make.service()
    kept = make.marker()
    Marker.objects.filter(pk=row.pk).update(at=clock.now() - markers.KEPT - timedelta(hours=1))
    for age in (services.EVENTS_KEPT + timedelta(hours=1), timedelta(hours=1)):
        Application.objects.create(
            service=service, instance_id=make.instance(service).pk, at=clock.now() - age
        )

    services.prune()

    assert list(Marker.objects.values_list("pk", flat=True)) == [kept.pk]
    assert Application.objects.count() == 1
