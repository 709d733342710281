"""CRC-32C: known answers (RFC 3720, appendix B.4), and a loop over bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.kernels.crc32c import crc32c
from tests.peer import crc32c as slow_crc32c


@pytest.mark.parametrize(
    ("content", "crc"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (
            bytes.fromhex(
                "01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"
            ),
            0xD9963A56,
        ),
    ],
)
def test_known_answers(content: bytes, crc: int) -> None:
    assert slow_crc32c(content) == crc
    assert crc32c(np.frombuffer(b"??" + content + b"?", np.uint8), 2, len(content)) == crc


@given(st.binary(max_size=200), st.integers(0, 9))
def test_every_length_at_every_place(content: bytes, place: int) -> None:
    memory = np.frombuffer(b"\xa5" * place + content + b"\x5a" * 9, np.uint8)
    assert crc32c(memory, place, len(content)) == slow_crc32c(content)
