"""Health scores on the console's pages."""

import pytest

from apps.fleet.models import Environment
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


@pytest.fixture
def here() -> Environment:
    place = make.environment("here")
    make.letters(make.service(place, "checkout"), *map(str, range(25)))
    return place


def test_the_worst_services_with_what_their_scores_were_lost_to(here: Environment) -> None:
    make.service(here, "search")

    text = make.browser().get("/admin/scores/?environment=here").text

    assert 'data-service="checkout" data-score="75" data-status="unknown"' in text
    assert "−25.0 · 25 dead letters wait" in text
    assert "checkout scores 75 of 100" in text
    assert 'data-service="search" data-score="" data-status="unknown"' in text
    assert "not enough data" in text
    assert 'data-over="1"' in text  # fetched once, not every two seconds


def test_one_service_alone(here: Environment) -> None:
    make.service(here, "search")

    text = make.browser().get("/admin/scores/?environment=here&service=checkout").text

    assert "checkout" in text
    assert "search" not in text


def test_the_pages_say_where_to_fetch_them(here: Environment) -> None:
    make.instance(make.service(here, "orders"))
    browser = make.browser()

    assert '"/admin/scores/?environment=here"' in browser.get("/admin/").text
    page = browser.get("/admin/history/?environment=here&service=checkout").text
    assert '"/admin/scores/?environment=here&amp;service=checkout&amp;dependency="' in page


@pytest.mark.parametrize("query", ["environment=there", "environment=here&service=nothing"])
def test_what_is_not_there_or_not_theirs_is_404(here: Environment, query: str) -> None:
    make.environment("there")
    person = make.member(here, "viewer")

    assert make.browser(person).get(f"/admin/scores/?{query}").status_code == 404
