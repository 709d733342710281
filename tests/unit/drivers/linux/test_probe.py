"""The UDP probe answers with values, on any kernel."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from drivers.errors import Capability, Unavailable
from drivers.linux.probe import probe_udp
from tests.unit.drivers.linux.fake_calls import FakeCalls


def test_this_machine_is_probed_by_use() -> None:
    found = probe_udp()
    for each in (found.batches, found.gso, found.gro, found.ecn):
        assert isinstance(each, Capability | Unavailable)
        if isinstance(each, Unavailable):
            assert each.next_step
    assert found.batches, f"{found.batches}"


def test_a_kernel_without_segmentation_says_why_and_what_next() -> None:
    found = probe_udp(FakeCalls(segmented=errno.EIO))
    assert found.batches
    assert isinstance(found.gso, Unavailable)
    assert "EIO" in found.gso.reason
    assert "Linux 4.18" in found.gso.next_step
    assert isinstance(found.gro, Unavailable)


def test_a_network_stack_without_marks_says_why_and_what_next() -> None:
    found = probe_udp(FakeCalls(marked=errno.EINVAL))
    assert found.batches
    assert found.gso
    assert isinstance(found.ecn, Unavailable)
    assert "EINVAL" in found.ecn.reason
    assert "without marks" in found.ecn.next_step


def test_a_sandbox_without_batched_calls_says_why_and_what_next() -> None:
    found = probe_udp(FakeCalls(batched=errno.EPERM))
    assert isinstance(found.batches, Unavailable)
    assert "EPERM" in found.batches.reason
    assert "seccomp" in found.batches.next_step
    assert found.gso
    assert found.gro


@dataclass
class _Void(FakeCalls):
    def sendmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        return -errno.EAGAIN


def test_packets_that_do_not_travel_are_a_reason() -> None:
    found = probe_udp(_Void())
    assert isinstance(found.gso, Unavailable)
    assert "did not arrive" in found.gso.reason
    assert "loopback" in found.gso.next_step
