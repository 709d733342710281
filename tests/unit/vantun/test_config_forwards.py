from __future__ import annotations

from pathlib import Path

import pytest

from vantun.config import ClientConfig, HttpConfig, ServerConfig, load_client, load_server
from vantun.config_forwards import ForwardConfig, ListenRule, ReverseConfig
from vantun.config_kinds import Endpoint
from vantun.errors import ConfigError

CLIENT = "server: example.org\nauth: s3cret\n"
SERVER = "tls: {cert: a.pem, key: b.pem}\nauth: {type: password, password: s3cret}\n"


def client(folder: Path, text: str) -> ClientConfig:
    (folder / "client.yaml").write_text(CLIENT + text)
    return load_client(folder / "client.yaml")


def server(folder: Path, text: str) -> ServerConfig:
    (folder / "server.yaml").write_text(SERVER + text)
    return load_server(folder / "server.yaml")


def test_forwards(tmp_path: Path) -> None:
    forwards = client(
        tmp_path,
        """
tcpForwarding:
  - {listen: "127.0.0.1:2222", remote: "ssh.test:22"}
udpForwarding:
  - {listen: ":5353", remote: "[2001:db8::53]:53", timeout: 10s}
reverse:
  - {listen: "0.0.0.0:8022", target: "127.0.0.1:22"}
  - {listen: "127.0.0.1:0", protocol: udp, target: "127.0.0.1:53"}
tcpTProxy: {listen: ":2500"}
udpTProxy: {listen: ":2500", timeout: 5m}
tcpRedirect: {listen: ":3500"}
""",
    ).forwards
    assert forwards.tcp == (ForwardConfig(Endpoint("127.0.0.1", 2222), Endpoint("ssh.test", 22)),)
    assert forwards.udp == (ForwardConfig(Endpoint("", 5353), Endpoint("2001:db8::53", 53), 10.0),)
    assert forwards.reverse == (
        ReverseConfig(Endpoint("0.0.0.0", 8022), "tcp", Endpoint("127.0.0.1", 22)),
        ReverseConfig(Endpoint("127.0.0.1", 0), "udp", Endpoint("127.0.0.1", 53)),
    )
    assert (forwards.tcp_tproxy, forwards.udp_tproxy, forwards.udp_tproxy_timeout) == (
        Endpoint("", 2500),
        Endpoint("", 2500),
        300.0,
    )
    assert forwards.tcp_redirect == Endpoint("", 3500)


def test_socks5_is_there_unless_something_else_is(tmp_path: Path) -> None:
    assert client(tmp_path, "").socks5 is not None
    assert client(tmp_path, "socks5: {listen: '127.0.0.1:1'}\nhttp: {listen: '127.0.0.1:1'}\n").socks5 is not None
    config = client(tmp_path, "http: {listen: '127.0.0.1:8080', username: a, password: b, realm: x}\n")
    assert config.socks5 is None
    assert config.http == HttpConfig(Endpoint("127.0.0.1", 8080), "a", "b", "x")
    assert client(tmp_path, "tcpRedirect: {listen: ':1'}\n").socks5 is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: {username: a, password: b}\n", "http: http.listen is missing"),
        ("http: {listen: ':1'}\n", "http.listen: anybody who reaches it could use the tunnel"),
        ("http: {listen: ':1', username: a}\n", "http.username and http.password go together"),
        ("http: {listen: ':1', username: 'a:b', password: c}\n", "http.username: a user name of HTTP has no ':'"),
        ("http: {listen: ':1', realm: 'a\"b'}\n", "http.realm: expected a printable ASCII text"),
        ("tcpForwarding: [{listen: ':1'}]\n", "tcpForwarding[0].remote is missing"),
        ("tcpForwarding: [{listen: ':1', remote: ':2'}]\n", "tcpForwarding[0].remote: expected an address with a host"),
        ("udpForwarding: [{listen: ':1', remote: 'a:1', timeout: 0.5s}]\n", "expected a duration from '1s' to '24h'"),
        ("tcpForwarding: [{listen: ':1', remote: 'a:1'}, {listen: ':1', remote: 'b:1'}]\n", "two entries listen on :1"),
        ("reverse: [{listen: ':1', target: 'a:1', protocol: icmp}]\n", "reverse[0].protocol: expected tcp or udp"),
        ("udpTProxy: {timeout: 5s}\n", "udpTProxy.listen is missing"),
        (
            "tcpForwarding:\n" + "  - {listen: '127.0.0.1:1', remote: 'a:1'}\n" * 257,
            "tcpForwarding: 257 entries; there is room for 256",
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client(tmp_path, text)
    assert message in str(caught.value)


def test_who_may_listen(tmp_path: Path) -> None:
    assert server(tmp_path, "").reverse_allow == {}
    allow = server(tmp_path, "reverse: {allow: {alice: '127.0.0.1:8000-8999', '*': 'tcp/*:22'}}\n").reverse_allow
    assert allow == {
        "alice": (ListenRule("127.0.0.1", 8000, 8999),),
        "*": (ListenRule("*", 22, 22, ("tcp",)),),
    }
    with pytest.raises(ConfigError, match=r"reverse.allow.alice: 'here' is no address and ports"):
        server(tmp_path, "reverse: {allow: {alice: here}}\n")
