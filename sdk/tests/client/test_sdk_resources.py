"""Resources: shares of what this process can have, measured on a machine written for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast._resources import Resources
from holdfast.testing import FakeClock

GIB = 2**30
PAGES = GIB // os.sysconf("SC_PAGE_SIZE")


class Machine:
    """A `/proc` and `/sys` of a machine of 8 GiB, half of it in use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.write("proc/stat", "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1\n")
        self.write(
            "proc/meminfo", f"MemTotal: {8 * GIB // 1024} kB\nMemAvailable: {GIB // 256} kB\n"
        )
        self.write("proc/self/statm", f"{4 * PAGES} {PAGES} 0 0 0 0 0\n")
        self.write("proc/self/cgroup", "0::/shop/web\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def limit(self, group: str = "shop/web", **files: str) -> None:
        for name, text in files.items():
            self.write(f"sys/fs/cgroup/{group}/{name.replace('_', '.', 1)}", text)

    def resources(self) -> Resources:
        return Resources(self.clock, root=self.root, disk=str(self.root))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestMachine:
    def test_memory_of_the_process_and_of_all(self, machine: Machine) -> None:
        measured = machine.resources().collect()

        assert (measured["memory"], measured["memory_host"]) == (0.125, 0.5)

    def test_processors_since_the_last_time(self, machine: Machine) -> None:
        resources = machine.resources()
        machine.write("proc/stat", "cpu  130 0 130 720 120 0 0 0 90 0\n")

        first = resources.collect()["cpu"]
        machine.write("proc/stat", "cpu  130 0 130 820 120 0 0 0 90 0\n")

        assert (first, resources.collect()["cpu"]) == (0.6, 0.0)

    def test_no_time_passed_is_no_figure(self, machine: Machine) -> None:
        assert "cpu" not in machine.resources().collect()

    def test_the_disk_as_df_counts(self, machine: Machine) -> None:
        assert 0 < machine.resources().collect()["disk_free"] < 1


class TestContainer:
    def test_memory_is_a_share_of_the_limit(self, machine: Machine) -> None:
        machine.limit(
            memory_max=str(2 * GIB),
            memory_current=str(GIB),
            memory_stat=f"inactive_file {GIB // 2}\n",
        )

        measured = machine.resources().collect()

        assert (measured["memory"], measured["memory_host"]) == (0.5, 0.25)

    def test_the_tightest_limit_around_it_counts(self, machine: Machine) -> None:
        machine.limit(memory_max="max", memory_current="0", memory_stat="")
        machine.limit("shop", memory_max=str(4 * GIB), memory_current=str(GIB), memory_stat="")

        assert machine.resources().collect()["memory_host"] == 0.25

    def test_a_limit_above_the_machine_is_none(self, machine: Machine) -> None:
        machine.limit(memory_max=str(64 * GIB), memory_current="0", memory_stat="")

        assert machine.resources().collect()["memory_host"] == 0.5

    def test_processors_are_a_share_of_the_quota(self, machine: Machine) -> None:
        machine.limit(cpu_max="50000 100000\n", cpu_stat="usage_usec 1000000\nuser_usec 1\n")
        resources = machine.resources()
        machine.clock.advance(10)
        machine.limit(cpu_stat="usage_usec 5000000\n")

        assert resources.collect()["cpu"] == 0.8

    def test_a_burst_above_the_quota_is_all_of_it(self, machine: Machine) -> None:
        machine.limit(cpu_max="50000 100000\n", cpu_stat="usage_usec 0\n")
        resources = machine.resources()
        machine.clock.advance(1)
        machine.limit(cpu_stat="usage_usec 9000000\n")

        assert resources.collect()["cpu"] == 1.0

    def test_a_quota_that_comes_later_is_not_compared_with_the_machine(
        self, machine: Machine
    ) -> None:
        resources = machine.resources()
        machine.limit(cpu_max="50000 100000\n", cpu_stat="usage_usec 1000000\n")

        assert "cpu" not in resources.collect()


class TestOddMachines:
    @pytest.mark.parametrize("file", ["proc/stat", "proc/meminfo", "proc/self/cgroup"])
    @pytest.mark.parametrize("text", ["", "\0\n", "cpu x y\n", "0::\n"])
    def test_what_cannot_be_read_is_left_out(self, machine: Machine, file: str, text: str) -> None:
        machine.write(file, text)

        assert "disk_free" in machine.resources().collect()

    def test_a_disk_that_is_gone_is_left_out(self, machine: Machine) -> None:
        resources = Resources(machine.clock, root=machine.root, disk=str(machine.root / "gone"))

        assert "disk_free" not in resources.collect()

    def test_elsewhere_psutil_is_asked(self, tmp_path: Path) -> None:
        pytest.importorskip("psutil")

        measured = Resources(FakeClock(), root=tmp_path, disk=str(tmp_path)).collect()

        assert {"memory", "memory_host", "disk_free"} <= measured.keys()

    def test_this_machine_can_be_measured(self) -> None:
        measured = Resources(FakeClock()).collect()

        assert {"memory", "memory_host", "disk_free"} <= measured.keys()
