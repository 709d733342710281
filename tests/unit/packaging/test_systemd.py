"""The units start commands that exist, with no privilege that they do not need."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from vantun.cli import VERBS
from vantun.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[3] / "packaging" / "systemd"
UNITS = ("vantun-server@.service", "vantun-client@.service")


def read(name: str) -> dict[str, list[str]]:
    """Return the settings of the [Service] section; every name may stand more than once."""
    found: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in (FOLDER / name).read_text(encoding="ascii").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, sign, value = line.partition("=")
            assert sign, line
            found[key].append(value)
    return found


@pytest.mark.parametrize("name", UNITS)
def test_the_command_exists(name: str) -> None:
    (command,) = read(name)["ExecStart"]
    program, verb, option, file = command.split()
    assert program.endswith("/vantun")
    assert verb in VERBS
    assert verb in name
    assert (option, file) == ("-c", "/etc/vantun/%i.yaml")


@pytest.mark.parametrize("name", UNITS)
def test_a_wrong_configuration_is_not_tried_again_and_again(name: str) -> None:
    unit = read(name)
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == [str(ConfigError("x", []).exit_code)]


@pytest.mark.parametrize("name", UNITS)
def test_one_capability_is_all(name: str) -> None:
    unit = read(name)
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]
    for key in ("NoNewPrivileges", "PrivateDevices", "ProtectHome", "ProtectKernelTunables", "RestrictNamespaces"):
        assert unit[key] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    (user,) = unit["User"]
    assert f"u {user} " in (FOLDER / "vantun.sysusers").read_text(encoding="ascii")


@pytest.mark.parametrize("name", UNITS)
def test_reload_and_stop_reach_the_control_process(name: str) -> None:
    unit = read(name)
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert unit["KillMode"] == ["mixed"]
    assert unit["Type"] == ["notify"]


def test_steering_a_tun_adds_one_capability_and_one_call() -> None:
    drop_in = read("tun-steering.conf")
    assert drop_in["AmbientCapabilities"] == drop_in["CapabilityBoundingSet"] == ["CAP_BPF"]
    assert drop_in["SystemCallFilter"] == ["bpf"]


def test_tun_adds_one_capability_and_one_device() -> None:
    drop_in = read("tun.conf")
    assert drop_in["AmbientCapabilities"] == drop_in["CapabilityBoundingSet"] == ["CAP_NET_ADMIN"]
    assert drop_in["DeviceAllow"] == ["/dev/net/tun rw"]
    assert drop_in["DevicePolicy"] == ["closed"]


def test_a_gpu_adds_devices_and_no_capability() -> None:
    """The units hide all devices (PrivateDevices), also those of a GPU."""
    drop_in = read("gpu.conf")
    assert drop_in["PrivateDevices"] == ["no"]
    assert drop_in["DevicePolicy"] == ["closed"]
    assert "char-nvidia* rw" in drop_in["DeviceAllow"]
    assert not {"AmbientCapabilities", "CapabilityBoundingSet", "SystemCallFilter"} & set(drop_in)
