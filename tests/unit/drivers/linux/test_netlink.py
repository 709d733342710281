from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from drivers.linux.netlink import attribute, nested, number, read_attributes


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_what_is_written_is_read(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert list(read_attributes(data)) == pairs


@given(st.binary(max_size=64))
def test_garbage_ends(data: bytes) -> None:
    assert sum(len(value) for _, value in read_attributes(data)) <= len(data)


def test_attributes_in_an_attribute() -> None:
    [(kind, inner)] = read_attributes(nested(8, number(2, 1300)))
    assert kind == 8
    assert list(read_attributes(inner)) == [(2, struct.pack("=I", 1300))]
