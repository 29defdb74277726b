"""The servers the other tests stand on: each answers a real request, and faults are real."""

import socket
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from kombu import Connection
from playwright.sync_api import Browser

from deploy.local_servers import LocalServer, PostgreSQL, RabbitMQ, Redis


def is_listening(server: LocalServer) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", server.port)) == 0


class TestSharedServers:
    def test_postgresql_answers_a_query(self, postgresql_url: str) -> None:
        with psycopg.connect(postgresql_url) as connection:
            row = connection.execute("SELECT current_user, 1").fetchone()

        assert row == ("holdfast", 1)

    def test_postgresql_refuses_a_wrong_password(self, postgresql_url: str) -> None:
        password = urlsplit(postgresql_url).password

        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(postgresql_url.replace(f":{password}@", ":guess@"))

    def test_redis_answers_a_ping(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            assert client.ping() is True

    def test_redis_refuses_a_client_without_password(self, redis_url: str) -> None:
        with (
            redis.Redis(port=urlsplit(redis_url).port or 0) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()

    def test_rabbitmq_carries_a_message(self, rabbitmq_url: str) -> None:
        with Connection(rabbitmq_url) as connection, connection.SimpleBuffer("servers") as queue:
            queue.put({"revision": 7})

            message = queue.get(timeout=10)

        assert message.payload == {"revision": 7}

    def test_chromium_renders_a_page(self, browser: Browser) -> None:
        page = browser.new_page()

        page.goto("data:text/html,<h1>3 of 3</h1><script>document.title = 'ran'</script>")

        assert (page.inner_text("h1"), page.title()) == ("3 of 3", "ran")


class TestFaults:
    def test_postgresql_keeps_committed_rows_through_a_kill(self) -> None:
        with PostgreSQL() as server:
            with psycopg.connect(server.url) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            server.kill()
            refused = not is_listening(server)
            server.start()
            with psycopg.connect(server.url) as connection:
                row = connection.execute("SELECT answer FROM kept").fetchone()

        assert refused
        assert row == (42,)

    def test_a_paused_redis_accepts_connections_and_answers_nothing(self) -> None:
        with Redis() as server, redis.Redis.from_url(server.url, socket_timeout=0.2) as client:
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.resume()

            assert client.ping() is True

    @pytest.mark.parametrize("kind", [PostgreSQL, Redis, RabbitMQ])
    def test_stop_ends_the_process_and_removes_its_data(self, kind: type[LocalServer]) -> None:
        with kind() as server:
            assert is_listening(server)

        assert not server.is_running
        assert not is_listening(server)
        assert not server.directory.exists()

    def test_a_server_that_cannot_start_says_what_it_logged(self) -> None:
        server = Redis()
        server.password = "two words"  # refused by Redis when it reads its configuration

        with pytest.raises(RuntimeError, match="wrong number of arguments"):
            server.start()
        assert not server.directory.exists()
