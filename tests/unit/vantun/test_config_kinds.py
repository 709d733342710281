from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.config_kinds import (
    ENGINES,
    Endpoint,
    choice,
    parse_boolean,
    parse_endpoint,
    parse_fingerprint,
    parse_remote,
)


@given(st.ip_addresses().map(str), st.integers(1, 65535))
def test_endpoints_survive_the_round_trip(host: str, port: int) -> None:
    endpoint = Endpoint(host, port)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (":443", Endpoint("", 443)),
        ("127.0.0.1:1080", Endpoint("127.0.0.1", 1080)),
        ("[::1]:53", Endpoint("::1", 53)),
        ("my-host.example.org.:1", Endpoint("my-host.example.org.", 1)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "443",
        "host",
        "host:",
        "host:x",
        "::1:53",
        "a b:1",
        "-a:1",
        "256.1.1.1:1",
        "[host]:1",
        "[]:1",
        "h:65536",
        "h:0",
    ],
)
def test_not_endpoints(text: str) -> None:
    with pytest.raises(ValueError, match=r"an address like|a port from"):
        parse_endpoint(text)


def test_a_peer_needs_a_host() -> None:
    assert parse_remote("example.org") == Endpoint("example.org", 443)
    with pytest.raises(ValueError, match="with a host"):
        parse_remote(":443")


def test_booleans_are_two_words() -> None:
    assert parse_boolean("true") is True
    with pytest.raises(ValueError, match="true or false"):
        parse_boolean("yes")


def test_fingerprints_lose_colons_and_case() -> None:
    assert parse_fingerprint(":".join(["AB"] * 32)) == "ab" * 32


def test_choices_name_what_is_allowed() -> None:
    assert choice("a", "b").allowed == "a or b"
    assert choice("a", "b", "c").allowed == "a, b or c"


@pytest.mark.parametrize("text", ["qat, ?openssl, !cuda", "only: cryptography", "simd@128:, reference", "sim-fpga"])
def test_engine_preferences(text: str) -> None:
    assert ENGINES.parse(text) == text


@pytest.mark.parametrize("text", ["", "Simd", "a,,b", "a b", "a@x:", "only:"])
def test_not_engine_preferences(text: str) -> None:
    with pytest.raises(ValueError, match="engine names"):
        ENGINES.parse(text)
