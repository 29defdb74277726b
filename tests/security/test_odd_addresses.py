"""Whatever stands in an address: an answer in words, never a server error."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator

from apps.fleet.models import Environment
from apps.health import services as health
from tests import make
from tests.doors import spread
from tests.routes import api_routes
from tests.security.world import MODELS, PAGES, list_of, page_of, populate

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("here"), pytest.mark.unmeasured]
HUGE = "9" * 5_000
LONG = "x" * 10_000
WORDS = "a " * 5_000
ODD = ["", "\0", "-1", HUGE, "1e999", LONG, WORDS, "'\"><;--", "[]"]
OF_LISTS = [
    *(
        "q",
        "p",
        "o",
        "id__in",
        "version__range",
        "version__gte",
        "version__foo__bar",
        "at__year",
        "__",
    ),
    *("environment__id__exact", "value__a", "object_id", "_changelist_filters", "is_active__exact"),
]
SOME = ("environment", "limit", "since")
CURSORS = [  # as `next` gives them, with another position in each
    "cD0lMDA=",  # p=%00
    "cD1hJTAwYg==",  # p=a%00b
    "cD0tOTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk=",
    "cj0xJnA9JWZm",
    "bz05OTk5OTk5OTk5OTk5OTk5OTk5OQ==",
    "bz0tMQ==",
    "\0",
    LONG,
]


@pytest.fixture(scope="module")
def here(shared_rows: None) -> Environment:
    environment = make.environment()
    populate(environment)
    return environment


@pytest.fixture(autouse=True)
def pulse(here: Environment, db: None) -> None:
    """The worker of a moment ago, without which the health of Celery is an error in truth."""
    health.take_pulse("celery")


def lists() -> Iterator[str]:
    yield from (
        f"/api/v1/{route}"
        for route in api_routes()
        if "GET" in route.methods and not route.parameters and route.pattern not in {"docs"}
    )


def server_errors(client: Client, asked: list[tuple[str, dict[str, str]]]) -> list[tuple[str, str]]:
    client.raise_request_exception = False
    statuses = [
        (address, query, client.get(address, query).status_code) for address, query in asked
    ]
    return [(address, str(query)[:80]) for address, query, status in statuses if status >= 500]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
class TestConsole:
    def test_lists(self, model: type[Model]) -> None:
        turn = MODELS.index(model)  # each name with both values, over six lists
        asked = [
            (list_of(model), {name: (HUGE, WORDS)[(number + turn) % 2]})
            for number, name in spread(turn // 2, 3, enumerate(OF_LISTS))
        ]

        assert server_errors(make.browser(), asked) == []

    def test_objects(self, model: type[Model]) -> None:
        names, turn = ("change", "history", "delete", *PAGES[model].changes), MODELS.index(model)

        asked: list[tuple[str, dict[str, str]]] = [
            (page_of(model, name, ("\0", HUGE)[(number + turn) % 2]), {})
            for number, name in enumerate(names)
        ]

        assert server_errors(make.browser(), asked) == []

    def test_creations(self, model: type[Model]) -> None:
        names = ("environment", "service", "version", "inherited")

        every = [
            (page_of(model, page), {name: value})
            for page in PAGES[model].creations
            for name in names
            for value in ("\0", HUGE, "x")
        ]
        asked = list(spread(MODELS.index(model), 3, every))

        assert server_errors(make.browser(), asked) == []


class TestPagesOfTheSite:
    @pytest.mark.parametrize("value", ODD)
    def test_are_answered(self, value: str) -> None:
        complete = {"app_label": "degradation", "model_name": "flag", "field_name": "service"}
        odd = dict.fromkeys(complete, value)

        asked = [
            (reverse("admin:index"), {"environment": value}),
            (reverse("admin:login"), {"next": value}),
            (reverse("admin:search"), {"s": value}),
            (reverse("admin:autocomplete"), {**complete, "term": value}),
            (reverse("admin:autocomplete"), odd),
            (reverse("admin:view_on_site", args=["1", "1"]), {"x": value}),
            (reverse("wall"), {"environment": value}),
            (reverse("wall"), {"token": value}),
            (reverse("wall"), {"refused": value}),
            *(
                (reverse("timeline"), {name: value})
                for name in ("service", "kind", "since", "span")
            ),
        ]

        assert server_errors(make.browser(), asked) == []


@cache
def parameters() -> dict[str, list[str]]:
    """What each list can be asked for, by its address, and some that it may not know."""
    paths = SchemaGenerator().get_schema(public=True)["paths"]  # type: ignore[no-untyped-call]  # untyped library
    return {address: sorted({*_known(paths.get(address, {})), *SOME}) for address in lists()}


def _known(path: dict[str, Any]) -> list[str]:
    asked = path.get("get", {}).get("parameters", ())
    return [each["name"] for each in asked if each["in"] == "query"]


class TestApi:
    @pytest.mark.parametrize("value", ODD)
    def test_parameters(self, here: Environment, value: str) -> None:
        client = make.browser(make.member(here, "administrator"))

        every = [
            (address, {name: value}) for address, names in parameters().items() for name in names
        ]
        asked = list(spread(ODD.index(value), 4, every))

        assert server_errors(client, asked) == []

    @pytest.mark.parametrize("cursor", CURSORS)
    def test_cursors(self, here: Environment, cursor: str) -> None:
        asked = [(address, {"cursor": cursor}) for address in lists()]

        assert server_errors(make.browser(make.member(here, "administrator")), asked) == []
