"""A web server's process: answering, hung, back, gone and back, as HTTP and TCP checks see it."""

import signal
import subprocess
import sys
from pathlib import Path

from apps.health import rules
from apps.health.prober import Prober
from apps.health.probes.outcomes import Outcome
from apps.health.targets import Target

prober = Prober()


def start(port: int, where: Path) -> tuple["subprocess.Popen[str]", int]:
    """A server of Python's own, once it listens, and its port."""
    command = [sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        command, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().split("port ")[1].split()[0])


def stop(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


def ask(kind: str, port: int, *, timeout: float = 20.0) -> Outcome:
    target = Target(kind, f"{kind}://127.0.0.1:{port}", "", {}, timeout)
    return prober.submit(target).result(timeout=timeout + 5)


def test_answering_hung_back_gone_and_back(tmp_path: Path) -> None:
    process, port = start(0, tmp_path)
    try:
        fine = ask("http", port)
        process.send_signal(signal.SIGSTOP)
        hung, reached = ask("http", port, timeout=0.5), ask("tcp", port)
        process.send_signal(signal.SIGCONT)
        back = ask("http", port)
    finally:
        stop(process)
    gone = [ask(kind, port) for kind in ("http", "tcp")]
    process, port = start(port, tmp_path)
    again = [ask(kind, port) for kind in ("http", "tcp")]
    stop(process)

    assert [each.mark for each in (fine, back, *again)] == [rules.OK] * 4
    assert "no answer" in hung.detail
    assert reached.is_ok  # the machine takes the connection for it: only HTTP can tell
    assert ["refused" in each.detail for each in gone] == [True, True]
