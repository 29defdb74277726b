"""The nginx configuration that is shipped, in front of two web processes.

What differs from the file: addresses and ports, where the certificate is, and the two words that
Debian's older nginx does not know.
"""

import getpass
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import IO

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apps.core import clock
from deploy.local_servers import LocalServer, free_port
from tests.e2e.doors import Listener, Switch
from tests.e2e.processes import ROOT, Cluster, Process

SHIPPED = ROOT / "deploy" / "nginx" / "nginx.conf"
SERVICE = "orders"


class Nginx(LocalServer):
    """nginx with the shipped configuration, in front of these ports."""

    name = "nginx"

    def __init__(self, *upstreams: int) -> None:
        super().__init__()
        self._upstreams = upstreams
        self.trust = ssl.create_default_context()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def prepare(self) -> None:
        certify("localhost", self.directory)
        self.trust.load_verify_locations(self.directory / "chain.pem")
        (self.directory / "nginx.conf").write_text(self._configuration())

    def _configuration(self) -> str:
        text = SHIPPED.read_text()
        for number, port in enumerate(self._upstreams, start=1):
            text = text.replace(f"web-{number}:8000 resolve", f"127.0.0.1:{port}")
        text = text.replace("/tmp/", f"{self.directory}/")
        text = text.replace("http2 on;", "").replace("/etc/nginx/tls", str(self.directory))
        text = re.sub(r"resolver .*;", "", text)
        for port in re.findall(r"listen (?:127\.0\.0\.1:)?(\d+)", text):
            own = self.port if port == "8443" else free_port()
            text = re.sub(rf"listen (?:127\.0\.0\.1:)?{port}", f"listen 127.0.0.1:{own}", text)
        return text

    def launch(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        configuration = str(self.directory / "nginx.conf")
        command = ["nginx", "-c", configuration, "-g", f"daemon off; user {getpass.getuser()};"]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self) -> None:
        with (
            socket.create_connection(("127.0.0.1", self.port), 2) as plain,
            self.trust.wrap_socket(plain, server_hostname="localhost"),
        ):
            pass


def certify(host: str, where: Path) -> None:
    """A certificate of a day that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(hours=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (where / "chain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (where / "key.pem").write_bytes(pem)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("behind-nginx"), is_whole=False) as started:
        yield started


@pytest.fixture(scope="module")
def nginx(cluster: Cluster) -> Iterator[Nginx]:
    with Nginx(*(web.port for web in cluster.webs)) as started:
        yield started


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> str:
    return cluster.token("flags:write", "config:read", "policies:read")


def policy(nginx: Nginx, token: str) -> httpx.Response:
    """The document, over a connection of its own."""
    return httpx.get(
        f"{nginx.url}/api/v1/policies/{SERVICE}",
        headers={"Authorization": f"Bearer {token}"},
        verify=nginx.trust,
    )


def test_an_event_is_not_held_back(cluster: Cluster, nginx: Nginx, operator: str) -> None:
    with (
        Switch(cluster.webs[0].url, operator, key="through") as switch,
        Listener(nginx.url, operator, SERVICE, verify=nginx.trust) as stream,
    ):
        stream.event("hello")
        stream.event("document")

        switch.engage()
        engaged = stream.event("changed")
        switch.end()
        ended = stream.event("changed")

    assert "through" in engaged["changed"]["flags"]
    assert ended["base"] == engaged["revision"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_goes_costs_no_request(
    cluster: Cluster, nginx: Nginx, operator: str, how: signal.Signals
) -> None:
    web = cluster.webs[0]
    assert policy(nginx, operator).status_code == 200
    web.end(how)
    try:
        answers = [policy(nginx, operator).status_code for _ in range(20)]
    finally:
        back(web)

    assert answers == [200] * 20


def test_streams_are_shared_out_and_one_that_is_cut_finds_the_process_that_is_left(
    cluster: Cluster, nginx: Nginx, operator: str
) -> None:
    left, gone = cluster.webs
    with ExitStack() as stack:
        streams = [
            stack.enter_context(Listener(nginx.url, operator, SERVICE, verify=nginx.trust))
            for _ in range(4)
        ]
        for stream in streams:
            stream.event("hello")
            stream.event("document")
        switch = stack.enter_context(Switch(left.url, operator, key="left"))
        gone.kill()
        try:
            switch.engage()
            heard = [hears_of_it(stream) for stream in streams]
            again = stack.enter_context(Listener(nginx.url, operator, SERVICE, verify=nginx.trust))
            again.event("hello")
        finally:
            back(gone)

    assert sum(heard) == 2


def test_the_socket_of_the_wall_is_upgraded(nginx: Nginx) -> None:
    """It comes to Holdfast, which turns a stranger away itself."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x" * 22 + "==",
        "Origin": nginx.url,
    }

    answer = httpx.get(f"{nginx.url}/ws/wall", headers=upgrade, verify=nginx.trust)

    assert answer.status_code in (401, 403)


def hears_of_it(stream: Listener) -> bool:
    """Whether the change comes; else the stream broke off, without a goodbye."""
    try:
        stream.event("changed")
    except (httpx.RemoteProtocolError, StopIteration):
        return False
    return True


def back(web: Process) -> None:
    web.start()
    web.wait_until_up()
