from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.preference import Preference, Wish, parse
from drivers.errors import DriverError

KNOWN = ("simd", "isal", "cuda", "qat", "openssl", "sim-fpga", "reference")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Preference()),
        ("  ", Preference()),
        ("qat", Preference((Wish("qat"),))),
        ("qat, ?openssl, !cuda", Preference((Wish("qat"), Wish("openssl", optional=True)), frozenset({"cuda"}))),
        ("isal,cuda@128:", Preference((Wish("isal"), Wish("cuda", from_batch=128)))),
        ("?cuda@64", Preference((Wish("cuda", optional=True, from_batch=64),))),
        ("only: simd", Preference((Wish("simd"),), only=True)),
        ("only:simd , sim-fpga", Preference((Wish("simd"), Wish("sim-fpga")), only=True)),
        ("!reference", Preference(forbidden=frozenset({"reference"}))),
    ],
)
def test_the_grammar(text: str, expected: Preference) -> None:
    assert parse(text, KNOWN, "accel.fec") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smid", "accel.fec: there is no engine 'smid' for this; did you mean 'simd'?"),
        ("!qatt", "there is no engine 'qatt' for this; did you mean 'qat'?"),
        ("zzz", "there is no engine 'zzz' for this; there are: cuda, isal, "),
        ("simd,,qat", "accel.fec: a name is missing; write"),
        ("simd qat", "'simd qat' is no engine; write"),
        ("simd@", "'simd@' is no engine; write"),
        ("qat:0", "'qat:0' is no engine; write"),
        ("SIMD", "'SIMD' is no engine; write"),
        ("simd, ?simd", "simd is named twice; once is enough"),
        ("simd, !simd", "simd is named twice; once is enough"),
        ("!cuda@128", "forbid it altogether with '!cuda'"),
        ("only:", "nothing stands behind 'only:'"),
        ("only: !cuda", "'only:' leaves no engine"),
    ],
)
def test_errors_say_what_to_write(text: str, message: str) -> None:
    with pytest.raises(DriverError) as caught:
        parse(text, KNOWN, "accel.fec")
    assert message in str(caught.value)
    assert str(caught.value).startswith("accel.fec: ")


@given(st.text(alphabet=string.ascii_lowercase + "@:?!,- 019", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text, KNOWN, "accel.aead")
    except DriverError:
        return
    assert {wish.name for wish in found.wishes} | found.forbidden <= set(KNOWN)
    assert found.forbidden.isdisjoint(wish.name for wish in found.wishes)
    assert found.wishes or not found.only


def test_a_wish_is_found_by_name() -> None:
    found = parse("qat, ?cuda", KNOWN, "accel.aead")
    assert found.wish("cuda") == Wish("cuda", optional=True)
    assert found.wish("isal") is None
