"""Every errno has one meaning, or a reason to have two."""

from __future__ import annotations

import errno

import pytest

from drivers.linux import udp_errno
from tests.unit.drivers.linux.fake_calls import FakeCalls


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_the_predicates_do_not_overlap(number: int) -> None:
    meanings = [
        udp_errno.would_block(number),
        udp_errno.no_buffer(number),
        udp_errno.misuse(number),
        udp_errno.from_icmp(number) or udp_errno.gso_refused(number),
    ]
    assert sum(meanings) <= 1


def test_names() -> None:
    assert udp_errno.name_of(errno.ENOBUFS) == "ENOBUFS"
    assert udp_errno.name_of(99_999) == "99999"


@pytest.mark.parametrize(
    ("number", "batched", "missing"),
    [
        (errno.ENOSYS, 0, True),
        (errno.EPERM, 0, False),
        (errno.EPERM, errno.EPERM, True),
        (errno.EIO, errno.EPERM, False),
    ],
)
def test_a_missing_call_is_told_from_a_firewall(number: int, batched: int, missing: bool) -> None:
    assert udp_errno.call_missing(number, FakeCalls(batched=batched), 0) is missing
