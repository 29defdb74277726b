"""Where a check may go: nothing with a password in it, and nowhere near a cloud's credentials."""

import pytest
from pytest_django import Settings

from apps.health import targets
from apps.health.targets import address_errors, option_errors


class TestAddresses:
    @pytest.mark.parametrize(("kind", "example"), targets.EXAMPLES.items())
    def test_the_examples_are_fine(self, kind: str, example: str) -> None:
        assert address_errors(kind, example, is_enabled=True) == []

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("http", "https://user:secret@api.example.com/"),
            ("postgresql", "postgresql://u:p@db/shop"),
            ("redis", "redis://:p@cache"),
            ("rabbitmq", "amqp://u:p@mq/"),
        ],
    )
    def test_a_password_stays_out(self, kind: str, address: str) -> None:
        (error,) = address_errors(kind, address, is_enabled=True)

        assert "secret" in error
        assert "p@" not in error

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("http", "ftp://example.com"),
            ("http", "https://"),
            ("http", "https://exa mple.com/"),
            ("http", "https://example.com:99999/"),
            ("http", "https://example.com/#part"),
            ("http", "https://[::1/"),
            ("tcp", "tcp://example.com"),
            ("postgresql", "postgresql://db/shop?passfile=/etc/shadow"),
            ("postgresql", "postgresql://db/shop?host=169.254.169.254"),
            ("postgresql", "postgresql://db/shop?sslmode=maybe"),
            ("redis", "redis://cache/shop"),
            ("redis", "unix:///run/redis.sock"),
            ("rabbitmq", "amqp://mq/shop?heartbeat=0"),
            ("host", "tcp://example.com:80"),
            ("tcp", ""),
        ],
    )
    def test_what_cannot_be_asked_is_refused(self, kind: str, address: str) -> None:
        assert len(address_errors(kind, address, is_enabled=True)) == 1

    def test_one_that_does_not_run_may_have_none_yet(self) -> None:
        assert address_errors("http", "", is_enabled=False) == []

    @pytest.mark.parametrize(
        "host",
        [
            *("169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"),
            *("100.100.100.200", "0.0.0.0", "224.0.0.1", "[ff02::1]", "[::]"),
        ],
    )
    def test_metadata_and_the_like_are_refused(self, host: str) -> None:
        assert address_errors("http", f"http://{host}/latest/meta-data", is_enabled=True)

    @pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "[::1]", "[fd12::1]"])
    def test_private_networks_are_what_is_watched(self, host: str) -> None:
        assert address_errors("http", f"http://{host}/", is_enabled=True) == []

    def test_link_local_can_be_allowed(self, settings: Settings) -> None:
        settings.HEALTH_ALLOW_LINK_LOCAL = True

        assert address_errors("http", "http://169.254.1.1/", is_enabled=True) == []


class TestOptions:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("http", {"method": "POST"}),
            ("http", {"expected_status": "ok"}),
            ("http", {"expected_status": 200}),
            ("http", {"verify_certificate": 1}),
            ("http", {"write_probe": True}),
            ("http", {"follow_redirects": 2.5}),
            ("http", {"follow_redirects": 6}),
            ("http", {"body_contains": "a\0b"}),
            ("http", {"body_lacks": "a" * 201}),
            ("http", {"json_path": "a..b"}),
            ("http", {"json_equals": {"a": 1}, "json_path": "a"}),
            ("http", {"method": "HEAD", "body_lacks": "error"}),
            ("rabbitmq", {"queue": "a\nb"}),
            ("rabbitmq", {"most_waiting": -1, "queue": "jobs"}),
            ("celery", {"most_waiting": 1.5}),
            ("host", {"memory_share": 85}),
            ("host", {"memory_share": True}),
            ("tcp", {"anything": 1}),
        ],
    )
    def test_what_the_kind_does_not_know_is_refused_by_name(
        self, kind: str, options: dict[str, object]
    ) -> None:
        assert list(option_errors(kind, options)) == [f"settings.{next(iter(options))}"]

    def test_a_value_to_be_compared_needs_a_place(self) -> None:
        assert list(option_errors("http", {"json_equals": 1})) == ["settings.json_path"]

    def test_a_limit_needs_a_queue(self) -> None:
        assert list(option_errors("rabbitmq", {"most_waiting": 9})) == ["settings.queue"]

    @pytest.mark.parametrize("kind", targets.OPTIONS)
    def test_the_defaults_are_fine(self, kind: str) -> None:
        defaults = {name: known.default for name, known in targets.OPTIONS[kind].items()}

        assert option_errors(kind, defaults) == {}

    @pytest.mark.parametrize(
        ("status", "expected", "is_expected"),
        [
            (200, "200-299", True),
            (302, "200-299", False),
            (401, "200-299,401", True),
            (404, "200,404", True),
            (500, "200-299,401", False),
        ],
    )
    def test_statuses(self, status: int, expected: str, is_expected: bool) -> None:
        assert targets.is_expected(status, expected) == is_expected
