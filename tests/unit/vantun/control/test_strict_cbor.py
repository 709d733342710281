from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.control.strict_cbor import read

PLAIN = st.recursive(
    st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def depth(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(PLAIN)
def test_it_reads_what_another_encoder_writes(value: object) -> None:
    if depth(value) <= 4:
        assert read(cbor2.dumps(value)) == value
    else:
        with pytest.raises(ValueError, match="deep"):
            read(cbor2.dumps(value))


@given(st.binary(max_size=60))
def test_garbage_is_what_another_decoder_reads_or_an_error(data: bytes) -> None:
    try:
        value = read(data)
    except ValueError:
        return
    assert value == cbor2.loads(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "too early"),
        ("19ff", "too early"),
        ("0000", "1 B follow"),
        ("c074323031332d30332d32315432303a30343a30305a", "tag"),  # a date
        ("c249010000000000000000", "tag"),  # a number of any size
        ("d823615b", "tag"),  # a regular expression
        ("d81c81d81d00", "tag"),  # a list that contains itself
        ("f4", "simple"),
        ("f97e00", "simple"),  # not a number
        ("5f41004100ff", "indefinite"),
        ("9fff", "indefinite"),
        ("bfff", "indefinite"),
        ("1c", "indefinite"),
        ("a2616100616100", "twice"),
        ("a10000", "no text"),
        ("61ff", "utf-8"),
        ("9bffffffffffffffff", "beyond the end"),
        ("bb7fffffffffffffff", "beyond the end"),
        ("5a7fffffff00", "beyond the end"),
        ("818181818100", "deep"),
    ],
)
def test_what_is_no_control_message(data: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(bytes.fromhex(data))
