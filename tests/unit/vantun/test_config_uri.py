from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.config_kinds import Endpoint
from vantun.config_uri import ServerLink, format_link, parse_link

HOSTS = st.one_of(
    st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True),
    st.ip_addresses().map(str),
)
LINKS = st.builds(
    ServerLink,
    server=st.builds(Endpoint, HOSTS, st.integers(1, 65535)),
    auth=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    sni=st.one_of(st.just(""), HOSTS),
    pin_sha256=st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    insecure=st.booleans(),
)


@given(LINKS)
def test_links_survive_the_round_trip(link: ServerLink) -> None:
    assert parse_link(format_link(link)) == link


@given(st.text().map(lambda text: "vantun://" + text))
def test_any_text_is_a_link_or_a_value_error(text: str) -> None:
    message = "a link"
    try:
        assert parse_link(text).server.host
    except ValueError as error:
        message = str(error)
    assert message


def test_a_whole_link() -> None:
    link = parse_link(
        "vantun://alice:s%40cret@gw.example.net:8443/?pinSHA256=" + "AB:" * 31 + "AB&sni=x.org&insecure=0#my"
    )
    assert link.server == Endpoint("gw.example.net", 8443)
    assert link.auth == "alice:s@cret"
    assert link.pin_sha256 == "ab" * 32
    assert link.sni == "x.org"
    assert link.insecure is False


def test_the_port_may_be_left_out() -> None:
    assert parse_link("vantun://[2001:db8::1]").server == Endpoint("2001:db8::1", 443)


def test_a_link_does_not_show_its_secret() -> None:
    assert "s3cret" not in repr(parse_link("vantun://s3cret@example.org"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://example.org", "a link like"),
        ("vantun://", "with a host"),
        ("vantun://:443", "with a host"),
        ("vantun://a@example.org:0", "port from 1"),
        ("vantun://example.org/path", "has no path"),
        ("vantun://example.org/?obfs=x", "'obfs' is unknown"),
        ("vantun://example.org/?sni=a&sni=b", "given twice"),
        ("vantun://example.org/?insecure=yes", "is 1 or 0"),
        ("vantun://example.org/?pinSHA256=abcd", "64 hex digits"),
        ("vantun://a%zz@example.org", "two hex digits"),
        ("vantun://a%ff@example.org", "UTF-8"),
    ],
)
def test_not_links(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_link(text)
