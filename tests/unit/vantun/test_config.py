from __future__ import annotations

from pathlib import Path

import pytest

from vantun.config import Endpoint, PathConfig, default_status_socket, load_client, load_server
from vantun.config_schema import DEFAULT_MEMORY
from vantun.errors import ConfigError

SERVER = "tls: {cert: a.pem, key: b.pem}\nauth: {type: password, password: s3cret}\n"
CLIENT = "server: example.org\nauth: s3cret\n"
PIN = "ab" * 32


def write(folder: Path, text: str) -> Path:
    path = folder / "vantun.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def server_problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_server(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def client_problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_client(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def test_the_least_server(tmp_path: Path) -> None:
    config = load_server(write(tmp_path, SERVER))
    assert config.listen == Endpoint("", 443)
    assert config.tls.cert == tmp_path / "a.pem"
    assert config.auth.password == "s3cret"
    assert config.masquerade.type == ""
    assert (config.bandwidth.up, config.congestion.type, config.fec.enabled) == (0, "bbr", True)
    assert (config.log_level, config.status_socket, config.memory) == ("info", None, DEFAULT_MEMORY)
    assert "s3cret" not in repr(config)


def test_a_whole_server(tmp_path: Path) -> None:
    config = load_server(
        write(
            tmp_path,
            """
listen: "[::1]:4433"
tls: {cert: /etc/a.pem, key: b.pem}
auth: {type: userpass, userpass: {alice: 007, bob: on}}
masquerade: {type: string, string: {content: hello, headers: {X-Y: z}, statusCode: 404}}
bandwidth: {up: 1 gbps, down: 100 mbps}
congestion: {type: brutal}
fec: {mode: off, residualLoss: 1e-4}
accel: {fec: "only: simd", aead: cryptography, allow_emulated: true}
log: {level: debug}
status: {socket: run/s.sock}
limits: {memory: 64 MiB}
""",
        )
    )
    assert config.listen == Endpoint("::1", 4433)
    assert config.tls.cert == Path("/etc/a.pem")
    assert config.auth.users == {"alice": "007", "bob": "on"}
    assert config.masquerade.type == "string"
    assert (config.masquerade.headers, config.masquerade.status_code) == ({"X-Y": "z"}, 404)
    assert (config.bandwidth.up, config.bandwidth.down) == (10**9, 10**8)
    assert (config.congestion.type, config.fec.enabled, config.fec.residual_loss) == ("brutal", False, 1e-4)
    assert (config.accel.fec, config.accel.aead, config.accel.allow_emulated) == ("only: simd", "cryptography", True)
    assert config.status_socket == tmp_path / "run/s.sock"
    assert config.memory == 64 * 2**20


def test_the_least_client(tmp_path: Path) -> None:
    config = load_client(write(tmp_path, CLIENT))
    server = Endpoint("example.org", 443)
    assert config.server == server
    assert config.paths == (PathConfig("default", server),)
    assert config.socks5 is not None
    assert config.socks5.listen == Endpoint("127.0.0.1", 1080)
    assert "s3cret" not in repr(config)


def test_paths_inherit(tmp_path: Path) -> None:
    text = """
server: vantun://alice:s%3Acret@gw.example.net:4433/?pinSHA256={pin}&sni=x.org
paths:
  - {{name: dsl, up: 40 mbps}}
  - {{name: lte, server: "[2001:db8::1]:8443", source: "2001:db8::2", down: 5 mbps}}
bandwidth: {{up: 1 mbps, down: 2 mbps}}
socks5: {{listen: ":1080", username: me, password: s3cret}}
congestion: {{type: brutal}}
"""
    config = load_client(write(tmp_path, text.format(pin=PIN)))
    assert config.auth == "alice:s:cret"
    assert (config.tls.pin_sha256, config.tls.sni, config.tls.insecure) == (PIN, "x.org", False)
    assert config.paths == (
        PathConfig("dsl", Endpoint("gw.example.net", 4433), "", 40_000_000, 2_000_000),
        PathConfig("lte", Endpoint("2001:db8::1", 8443), "2001:db8::2", 1_000_000, 5_000_000),
    )
    assert config.socks5 is not None
    assert config.socks5.username == "me"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lisen: ':1'\n" + SERVER, "vantun.yaml:1: lisen: unknown key; did you mean listen?"),
        (SERVER + "fec: {Mode: on}\n", "vantun.yaml:3: fec.Mode: unknown key; did you mean fec.mode?"),
        (SERVER + "residualLoss: 1\n", "vantun.yaml:3: residualLoss: unknown key; did you mean fec.residualLoss?"),
        (SERVER + "zzz: 1\n", "vantun.yaml:3: zzz: unknown key; known here: accel, acl, auth,"),
        (SERVER + "? [a]\n: b\n", "a list: unknown key"),
        (SERVER + "log: {level: loud}\n", "log.level: expected debug, info, warning or error, found 'loud'"),
        (
            SERVER + "listen: [1]\n",
            "listen: expected an address to listen on, like ':443' or '127.0.0.1:1080', found a list",
        ),
        (SERVER + "listen:\n", "listen: has no value; remove the key, or give it one like: :443"),
        (SERVER + "listen: ':1'\nlisten: ':2'\n", "vantun.yaml:4: listen: given twice, first in line 3"),
        (SERVER + "fec: on\n", "fec: expected keys (mode, overhead, residualLoss), found a single value"),
        (SERVER + "status:\n", "status: expected keys (socket), found nothing"),
        (SERVER + "fec: {overhead: 0.2}\n", "fec.overhead: expected a percentage from '0 %' to '100 %'"),
        (SERVER + "fec: {overhead: 101 %}\n", "fec.overhead: expected a percentage from '0 %' to '100 %'"),
        (SERVER + "fec: {mode: off, overhead: 5 %}\n", "fec.overhead: has no effect with fec.mode: off"),
        (SERVER + "fec: {residualLoss: 2}\n", "fec.residualLoss: expected a fraction from 1e-9 to 0.5"),
        (SERVER + "limits: {memory: 1 MB}\n", "limits.memory: expected a size from '16 MB' to '1 TiB', found '1 MB'"),
        (SERVER + "congestion: {type: brutal}\n", "vantun.yaml:3: congestion.type: brutal needs bandwidth.up"),
        (SERVER + "masquerade: {type: string}\n", "masquerade.string.content is missing"),
        (SERVER + "masquerade: {type: proxy}\n", "masquerade.proxy.url is missing"),
        ("auth: {type: password, password: x}\n", "vantun.yaml: tls.cert is missing: Certificate chain, PEM."),
        ("auth: {type: password}\n", "auth.type: password needs auth.password"),
        ("auth: {type: userpass}\n", "auth.type: userpass needs auth.userpass"),
        (
            "auth: {type: password, password: x, userpass: {a: b}}\n",
            "auth.userpass: has no effect with auth.type: password",
        ),
        (
            "auth: {type: userpass, userpass: {'a:b': c}}\n",
            "auth.userpass.a:b: a user name is not empty and has no ':'",
        ),
        ("auth: {type: userpass, userpass: {a: }}\n", "auth.userpass.a: the password is empty"),
        ("auth: {type: userpass, userpass: {a: b, a: c}}\n", "auth.userpass.a: given twice"),
        (
            "auth: {type: userpass, userpass: [a]}\n",
            "auth.userpass: expected a mapping from user names to passwords, found a list",
        ),
        (
            "auth: {type: userpass, userpass: {a: [b]}}\n",
            "auth.userpass: expected a mapping from user names to passwords",
        ),
        ("just words\n", "the file: expected keys (accel, acl, auth,"),
        ("a: [\n", "vantun.yaml:2: this is not YAML:"),
        ("a: b: c\n", "vantun.yaml:1: this is not YAML: mapping values are not allowed here"),
        ("a: 1\n--- \nb: 1\n", "this is not YAML: expected a single document"),
        ("x: *nobody\n", "this is not YAML: found undefined alias"),
        ("a: 1\nb: \x07\n", "vantun.yaml:2: the character U+0007 is not allowed"),
        ("", "the file is empty; `vantun config init` writes one"),
        ("# only a comment\n", "the file is empty"),
        ("[" * 5000, "the file is nested too deeply"),
    ],
)
def test_server_problems(tmp_path: Path, text: str, message: str) -> None:
    assert message in server_problems(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auth: x\n", "vantun.yaml: server is missing: The server:"),
        ("server: example.org\n", "auth is missing: the server lets nobody in without it"),
        ("server: vantun://a@example.org\nauth: b\n", "vantun.yaml:2: auth: stands in the link of `server` too"),
        ("server: vantun://a@b/?insecure=1\ntls: {ca: x}\n", "vantun.yaml:1: tls.insecure: true makes tls.ca and"),
        (CLIENT + "paths: []\n", "vantun.yaml:3: paths: the list is empty"),
        (CLIENT + "paths: {}\n", "paths: expected a list (lines that start with '- '), found a mapping"),
        (
            CLIENT + "paths: [a]\n",
            "paths[0]: expected keys (cap, down, interface, mtu, name, priority, server, source, up)",
        ),
        (CLIENT + "paths:\n  - {sever: b}\n", "vantun.yaml:4: paths[0].sever: unknown key; did you mean server?"),
        (CLIENT + "paths:\n  - {up: 1 mbps}\n", "vantun.yaml:4: paths[0].name is missing"),
        (CLIENT + "paths:\n  - name: a\n  - name: a\n", "vantun.yaml:5: paths[1].name: two paths are called 'a'"),
        (CLIENT + "paths: [{name: a, source: eth0}]\n", "paths[0].source: expected an IP address of this machine"),
        (
            CLIENT + "socks5: {username: a}\n",
            "vantun.yaml:3: socks5.username: socks5.username and socks5.password go together",
        ),
        (CLIENT + "socks5: {listen: ':1080'}\n", "socks5.listen: anybody who reaches it could use the tunnel"),
        (CLIENT + "congestion: {type: brutal}\n", "set bandwidth.up, or `up` of the path (missing for: default)"),
        (CLIENT + "tls: {pinSHA256: ab}\n", "tls.pinSHA256: expected a SHA-256 fingerprint"),
        (
            CLIENT + "listen: ':443'\n",
            "vantun.yaml:3: listen: unknown key; did you mean http.listen or ",
        ),
    ],
)
def test_client_problems(tmp_path: Path, text: str, message: str) -> None:
    assert message in client_problems(tmp_path, text)


def test_every_problem_is_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = server_problems(tmp_path, "listen: x\nfec: {mode: maybe}\nbogus: 1\n")
    assert [line.split(":")[1] for line in text.splitlines() if line.split(":")[1].isdigit()] == ["1", "2", "3"]
    assert "tls.cert is missing" in text


def test_secrets_are_never_repeated(tmp_path: Path) -> None:
    text = client_problems(tmp_path, "server: vantun://alice:s3cret@example.org/?bogus=1\n")
    assert "'bogus' is unknown" in text
    assert "s3cret" not in text


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `vantun config init"):
        load_server(tmp_path / "absent.yaml")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a folder"):
        load_server(tmp_path)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, SERVER)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="may not be read by this user"):
        load_server(path)


def test_another_system_error(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ConfigError, match="cannot be read: Too many levels"):
        load_server(loop)


def test_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "vantun.yaml"
    path.write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(ConfigError, match=r":2: byte 0xe4 is not UTF-8"):
        load_server(path)


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "vantun.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SERVER.encode())
    assert load_server(path).auth.type == "password"


def test_a_huge_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load_server(write(tmp_path, "#" * (2**20 + 1)))


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    """The billion laughs: the table bounds the walk, so nothing is ever expanded."""
    layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60))
    assert "a59: unknown key" in server_problems(tmp_path, "a0: &a0 lol\n" + layers)


def test_the_status_socket_of_root_and_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_status_socket("server") == Path("/run/vantun/server.sock")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_status_socket("client") == Path("/run/user/1000/vantun/client.sock")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_status_socket("client") == Path("/tmp/vantun-1000/vantun/client.sock")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/vantun:/run/other")
    assert default_status_socket("server") == Path("/run/vantun/server.sock")


def test_several_servers(tmp_path: Path) -> None:
    text = CLIENT + (
        "tls: {ca: ca.pem, sni: one.example}\n"
        "servers:\n"
        f"  - {{server: 'vantun://bob:x@gw2.example/?pinSHA256={PIN}', order: 2, weight: 3}}\n"
        "  - {server: 'gw3.example:8443'}\n"
    )
    first, second, third = load_client(write(tmp_path, text)).servers
    assert (first.server, first.auth, first.tls.sni) == (Endpoint("example.org", 443), "s3cret", "one.example")
    assert (second.auth, second.order, second.weight, second.tls.pin_sha256) == ("bob:x", 2, 3, PIN)
    assert second.tls.sni == ""
    assert (third.server, third.auth, third.order, third.weight) == (Endpoint("gw3.example", 8443), "s3cret", 1, 1)
    assert third.tls.ca == tmp_path / "ca.pem"


def test_a_server_that_stands_there_twice(tmp_path: Path) -> None:
    assert "stands there twice" in client_problems(tmp_path, CLIENT + "servers: [{server: example.org}]\n")


def test_the_number_of_workers_may_stand_for_its_section(tmp_path: Path) -> None:
    for text, workers in (("auto", 0), ("4", 4), ("{count: 3}", 3), ("{count: auto, pin: on}", 0)):
        assert load_client(write(tmp_path, f"{CLIENT}workers: {text}\n")).life.workers == workers
        assert load_server(write(tmp_path, f"{SERVER}workers: {text}\n")).life.workers == workers
    for text in ("none", "0", "65"):
        found = client_problems(tmp_path, f"{CLIENT}workers: {text}\n")
        assert f"vantun.yaml:3: workers.count: expected 'auto', or a number from 1 to 64, found {text!r}" in found
    assert "workers: expected keys" in client_problems(tmp_path, f"{CLIENT}workers:\n")
    assert "fec: expected keys" in client_problems(tmp_path, f"{CLIENT}fec: 4\n")
