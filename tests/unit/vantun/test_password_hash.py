from __future__ import annotations

import pytest

from vantun.password_hash import make_hash, parse_hash

# section 12, second vector: "password", "NaCl", N=1024, r=8, p=16, 64 bytes
RFC7914 = (
    "scrypt:1024:8:16$NaCl$fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
    "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
)


def test_a_hash_knows_its_password() -> None:
    text = make_hash("s3cret", 10)
    found = parse_hash(text)
    assert found is not None
    assert found.verify(b"s3cret")
    assert not found.verify(b"s3cre")
    assert not found.verify(b"")
    assert "s3cret" not in text + repr(found)
    assert make_hash("s3cret", 10) != text, "each has its own salt"
    assert found.cost == (1024, 8, 1)


def test_the_vector_of_rfc_7914() -> None:
    found = parse_hash(RFC7914)
    assert found is not None
    assert found.verify(b"password")
    assert not found.verify(b"passwore")


@pytest.mark.parametrize("text", ["s3cret", "", "scrypt", "$2b$12$abc", "argon2:x"])
def test_plain_passwords(text: str) -> None:
    assert parse_hash(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "scrypt:",
        "$scrypt$",
        "$scrypt$ln=15,r=8,p=1$c2FsdA",
        RFC7914.replace("1024", "1000"),
        RFC7914.replace("1024", "512"),
        RFC7914.replace("1024", "1048576"),
        RFC7914.replace(":16$", ":0$"),
        RFC7914[:-100],
        RFC7914[:-1],
        "$scrypt$ln=10,r=8,p=1$c2FsdA$c2hvcnQ",
        "$scrypt$ln=99,r=8,p=1$c2FsdA$" + "A" * 43,
    ],
)
def test_what_begins_as_a_hash_and_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="vantun user hash"):
        parse_hash(text)
