from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from vantun.config import load_client, load_server
from vantun.config_tun import ClientTunConfig, ServerTunConfig, TunUser
from vantun.errors import ConfigError

SERVER = """
tls: {cert: c.pem, key: k.pem}
auth: {type: userpass, userpass: {alice: s3cret, bob: hunter2}}
"""
CLIENT = "server: example.org:443\nauth: alice:s3cret\n"


def server(folder: Path, text: str) -> ServerTunConfig | None:
    file = folder / "server.yaml"
    file.write_text(SERVER + text)
    return load_server(file).tun


def client(folder: Path, text: str) -> ClientTunConfig | None:
    file = folder / "client.yaml"
    file.write_text(CLIENT + text)
    return load_client(file).tun


def test_without_the_section_there_is_no_tun(tmp_path: Path) -> None:
    assert server(tmp_path, "") is None
    assert client(tmp_path, "") is None


def test_a_whole_server(tmp_path: Path) -> None:
    text = """
tun:
  name: vt1
  address: [10.9.0.1/24, 'fd00:9::1/64']
  clients: [10.9.0.128/25]
  mtu: 1400
  nat: false
  clientToClient: true
  offload: false
  users:
    - {name: alice, address: [10.9.0.7], prefixes: [192.168.7.0/24, 'fd00:7::/48']}
    - {name: bob}
"""
    networks = (ip_network("192.168.7.0/24"), ip_network("fd00:7::/48"))
    assert server(tmp_path, text) == ServerTunConfig(
        addresses=(ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64")),
        name="vt1",
        clients=(ip_network("10.9.0.128/25"),),
        mtu=1400,
        nat=False,
        client_to_client=True,
        offload=False,
        users=(TunUser("alice", (ip_address("10.9.0.7"),), networks), TunUser("bob")),
    )


def test_a_whole_client(tmp_path: Path) -> None:
    text = """
tun:
  address: [10.9.0.7]
  mtu: auto
  route: {ipv4: [0.0.0.0/0], ipv6: ['::/0'], ipv4Exclude: [203.0.113.0/24], exclude: ['2001:db8::/32']}
  announce: [192.168.7.0/24]
"""
    assert client(tmp_path, text) == ClientTunConfig(
        addresses=(ip_address("10.9.0.7"),),
        routes=(ip_network("0.0.0.0/0"), ip_network("::/0")),
        excluded=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")),
        announced=(ip_network("192.168.7.0/24"),),
    )


@pytest.mark.parametrize("text", ["tun: {}\n", "tun: {address: auto}\n", "tun: {address: [], mtu: auto}\n"])
def test_a_client_that_leaves_everything_to_the_server(tmp_path: Path, text: str) -> None:
    assert client(tmp_path, text) == ClientTunConfig()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tun: {name: v0}", "tun.address is missing"),
        ("tun: {address: [10.9.0.1/31]}", "room for clients"),
        ("tun: {address: [10.9.0.0/24]}", "an address of a host"),
        ("tun: {address: [10.9.0.255/24]}", "an address of a host"),
        ("tun: {address: [10.9.0.1]}", "room for clients"),
        ("tun: {address: auto}", "expected a list"),
        ("tun: {address: [10.9.0.1/24, 10.9.0.2/16]}", "10.9.0.0/16 overlaps another network"),
        ("tun: {address: [10.9.0.1/24], clients: [10.8.0.0/24]}", "10.8.0.0/24 is not within a network"),
        ("tun: {address: [10.9.0.1/24], clients: [10.9.0.1/24]}", "clear the bits"),
        ("tun: {address: [10.9.0.1/24], mtu: 1279}", "auto, or bytes from 1280 to 9000"),
        ("tun: {address: [10.9.0.1/24], name: a/b}", "the name of an interface"),
        ("tun: {address: [10.9.0.1/24], users: [{name: eve}]}", "'eve' is not in auth.userpass"),
        ("tun: {address: [10.9.0.1/24], users: [{name: bob}, {name: bob}]}", "stands in the list twice"),
        ("tun: {address: [10.9.0.1/24], users: [{name: bob, address: [10.8.0.2]}]}", "not in a network"),
        ("tun: {address: [10.9.0.1/24], users: [{name: bob, address: [10.9.0.1]}]}", "belongs to the server"),
        ("tun: {address: [10.9.0.1/24], users: [{name: bob, prefixes: [0.0.0.0/0]}]}", "the whole internet"),
        ("tun: {address: [10.9.0.1/24], users: [{name: bob, prefixes: [10.9.0.0/30]}]}", "overlaps a network"),
        ("tun: {address: [10.9.0.1/24], users: [{address: [10.9.0.4]}]}", "name is missing"),
    ],
)
def test_what_is_wrong_with_a_server(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server(tmp_path, text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tun: {address: [10.9.0.7/24]}", "an IP address, like"),
        ("tun: {route: {ipv4: ['::/0']}}", "an IPv4 network"),
        ("tun: {route: {ipv6: [0.0.0.0/0]}}", "an IPv6 network"),
        ("tun: {route: {ipv4: [10.0.0.1/8]}}", "clear the bits"),
        ("tun: {announce: [0.0.0.0/0]}", "the whole internet"),
        ("tun: {nat: true}", "unknown key"),
        ("tun: {route: {ipv4: [" + ", ".join(f"10.{n}.0.0/16" for n in range(129)) + "]}}", "at most 128"),
    ],
)
def test_what_is_wrong_with_a_client(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client(tmp_path, text)
    assert problem in str(caught.value)


def _examples() -> list[str]:
    page = Path(__file__).resolve().parents[3] / "docs" / "tun.md"
    return re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", _examples(), ids=lambda text: text.split("\n")[0])
def test_the_manuals_examples(tmp_path: Path, example: str) -> None:
    """Sections stand alone there; what every file needs besides is added."""
    if example.startswith("# server.yaml"):
        assert server(tmp_path, example[example.index("tun:") :]) is not None
    else:
        assert client(tmp_path, example[example.index("tun:") :]) is not None
