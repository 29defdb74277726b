"""The deployment on one host: watched, closed, and without a password anybody knows."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = ("docker-compose.yml", "deploy/compose.rabbitmq.yml")
STORES = {"postgresql", "redis", "rabbitmq"}


def services(path: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / path).read_text())["services"]
    return found


def of_every_file() -> list[tuple[str, dict[str, Any]]]:
    return [each for path in FILES for each in services(path).items()]


def test_every_service_that_stays_has_a_health_check() -> None:
    stays = {
        name
        for name, service in of_every_file()
        if "image" in service and service.get("restart") != "no"
    }
    watched = {name for name, service in of_every_file() if "healthcheck" in service}

    assert stays == watched
    assert watched >= STORES | {"web-1", "web-2", "worker", "beat", "nginx"}


def test_no_store_can_be_reached_from_outside() -> None:
    published = {name for name, service in of_every_file() if "ports" in service}

    assert published == {"nginx"}


@pytest.mark.parametrize("path", FILES)
def test_no_password_stands_in_it_nor_a_default_for_one(path: str) -> None:
    values = [
        (name, str(value))
        for service in services(path).values()
        for name, value in (service.get("environment") or {}).items()
    ]

    secret = re.compile("PASSWORD|SECRET|TOKEN|KEY|_URL")
    assert [name for name, _value in values if secret.search(name) and name[-5:] != "_FILE"] == []
    assert [value for _name, value in values if ":-" in value or re.search("://.*@", value)] == []


def test_nginx_asks_again_where_the_web_processes_are() -> None:
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    version = services(FILES[0])["nginx"]["image"].partition(":")[2].partition("-")[0]

    assert tuple(map(int, version.split("."))) >= (1, 28)
    assert "resolver 127.0.0.11" in text
    servers = re.findall(r"server (web-\d:8000) (.*);", text)
    assert [(name, "resolve" in options.split()) for name, options in servers] == [
        ("web-1:8000", True),
        ("web-2:8000", True),
    ]
