"""What an interface does in hardware: the layouts against the real kernel, the answers against made-up ones."""

from __future__ import annotations

import errno
import os
import socket
from array import array

import pytest

from drivers.errors import Capability, Unavailable
from drivers.linux.ethtool import USO, device_of, device_towards, features, probe_uso


class Card:
    """A driver with features of given names and states."""

    def __init__(self, active: dict[str, bool]) -> None:
        self.active = active

    def __call__(self, interface: str, request: array[int]) -> None:
        names = list(self.active)
        if request[0] == 0x37:
            request[4] = len(names)
        elif request[0] == 0x1B:
            assert request[2] == len(names)
            raw = b"".join(name.encode().ljust(32, b"\0") for name in names)
            request[3:] = array("I", raw)
        else:
            assert (request[0], request[1]) == (0x3A, (len(names) + 31) // 32)
            for place, name in enumerate(names):
                request[2 + 4 * (place // 32) + 2] |= self.active[name] << place % 32


def card(uso: bool | None, more: int = 40) -> Card:
    active = {f"feature-{number}": number % 3 == 0 for number in range(more)}
    return Card(active if uso is None else {**active, USO: uso})


def test_features_are_read_by_name() -> None:
    assert features("eth0", card(True)) == card(True).active
    assert features("eth0", card(False, 63)) == card(False, 63).active


def test_the_answer_has_a_reason_and_a_next_step() -> None:
    assert isinstance(probe_uso("eth0", card(True)), Capability)
    off, unknown = probe_uso("eth0", card(False)), probe_uso("eth0", card(None))
    assert isinstance(off, Unavailable)
    assert f"ethtool -K eth0 {USO} on" in off.next_step
    assert isinstance(unknown, Unavailable)
    assert "4.18" in unknown.next_step


def test_a_kernel_that_does_not_tell_is_no_error() -> None:
    def refuse(interface: str, request: array[int]) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    for ioctl in (refuse, lambda _interface, _request: None):
        answer = probe_uso("eth0", ioctl)
        assert isinstance(answer, Unavailable)
        assert "does not say" in answer.reason


def test_the_real_kernel_knows_loopback() -> None:
    try:
        found = features("lo")
    except OSError as error:
        pytest.skip(f"this kernel does not tell features: {error}")
    assert found["loopback"]
    assert "rx-gro" in found


def test_the_interface_of_an_address_and_towards_one() -> None:
    assert device_of("127.0.0.1") == device_towards("127.0.0.1") == "lo"
    assert device_of("192.0.2.77") is None
    assert device_of("2001:db8::77") is None
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return
    assert device_towards("::1") == "lo"
