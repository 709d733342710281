from __future__ import annotations

from pathlib import Path

import pytest

from drivers.linux.udp_bind import RECEIVE_BUFFER
from vantun.doctor import system
from vantun.doctor.finding import Level


def put(root: Path, name: str, text: str) -> None:
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.mark.parametrize(
    ("release", "level", "said"),
    [
        ("6.2.0-1-amd64", Level.OK, "Linux 6.2.0"),
        ("5.10.0", Level.WARNING, "USO"),
        ("4.4.0", Level.WARNING, "UDP_SEGMENT"),
        ("", Level.PROBLEM, "no Linux"),
    ],
)
def test_kernel(tmp_path: Path, release: str, level: Level, said: str) -> None:
    put(tmp_path, "proc/sys/kernel/osrelease", release)
    found = system.kernel_release(tmp_path)
    assert found.level is level
    assert said in found.text


def test_small_buffers_are_named_with_the_sysctl_that_mends_them(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/status", "CapEff:\t0000000000000000\n")
    put(tmp_path, "proc/sys/net/core/rmem_max", "212992\n")
    put(tmp_path, "proc/sys/net/core/wmem_max", "8388608\n")
    receive, send = system.socket_buffers(tmp_path)
    assert receive.level is Level.WARNING
    assert receive.fix == f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"
    assert send.level is Level.OK


def test_privilege_makes_the_limits_of_buffers_void(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n")
    (found,) = system.socket_buffers(tmp_path)
    assert found.level is Level.OK


@pytest.mark.parametrize(("tun", "level"), [(True, Level.PROBLEM), (False, Level.NOTE)])
def test_a_privilege_that_is_missing_matters_when_the_configuration_needs_it(
    tmp_path: Path, tun: bool, level: Level
) -> None:
    put(tmp_path, "proc/self/status", "CapEff:\t0000000000000400\n")
    low, admin = system.capabilities(tmp_path, tun=tun, low_port=True)
    assert low.level is Level.OK
    assert admin.level is level
    if tun:
        assert "+net_admin" in admin.fix


def test_open_files() -> None:
    assert system.open_files(1024).level is Level.WARNING
    assert system.open_files(1 << 20).level is Level.OK


def test_memory(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    1000000 kB\n")
    assert system.memory(tmp_path, 128_000_000).level is Level.OK
    assert system.memory(tmp_path, 900_000_000).level is Level.WARNING
    assert system.memory(tmp_path / "nothing", 1).level is Level.NOTE


def test_processor(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "processor: 0\nflags\t\t: fpu sse2 avx2\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    aes, governor = system.processor(tmp_path)
    assert aes.level is Level.WARNING
    assert "avx2" in aes.text
    assert governor.level is Level.NOTE
    assert system.processor(tmp_path / "nothing") == []


@pytest.mark.parametrize(("state", "level"), [(0, Level.OK), (5, Level.WARNING), (-1, Level.NOTE)])
def test_clock(state: int, level: Level) -> None:
    assert system.clock(lambda: state).level is level


def test_the_kernel_is_asked_for_its_clock() -> None:
    assert system.clock().level in (Level.OK, Level.WARNING)
