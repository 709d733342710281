from __future__ import annotations

import pytest

from vantun.control.tun_mtu import OVERHEAD, inner_mtu


@pytest.mark.parametrize(
    ("lanes", "configured", "mtu"),
    [
        ([], 0, 1280),
        ([1200], 0, 1280),
        ([1452, 1400], 0, 1400 - OVERHEAD),
        ([1452, 0], 0, 1452 - OVERHEAD),
        ([8952], 0, 8952 - OVERHEAD),
        ([65000], 0, 9000),
        ([1200], 1420, 1420),
    ],
)
def test_the_smallest_path_decides(lanes: list[int], configured: int, mtu: int) -> None:
    assert inner_mtu(lanes, configured) == mtu
