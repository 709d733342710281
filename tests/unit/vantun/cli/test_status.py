from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun import cli
from vantun.cli import render, status
from vantun.cli.status_view import document, is_degraded
from vantun.errors import NotRunningError, VantunError

STATUS = {
    "role": "client",
    "uptime": 65.2,
    "engines": {"fec": "simd", "aead": "cryptography"},
    "lanes": [
        {
            "session": 1,
            "path": 2,
            "name": "dsl",
            "state": "active",
            "rtt_ms": 40.25,
            "loss": 0.05,
            "rate_bps": 9.5e7,
            "cwnd": 500_000,
            "in_flight": 400_000,
        }
    ],
    "channels": [{"session": 1, "channel": 3, "class": "bulk", "k": 64, "m": 8, "rx_recovered": 12}],
    "packets": [{"session": 1, "packets_in": 4711}, {"session": 2, "packets_in": 0, "packets_out": 0}],
    "flows": {"open": 3},
    "stages": [{"name": "fec.encode", "calls": 10, "packets": 640, "ns_per_packet": 210.4, "packets_per_call": 64.0}],
    "fallbacks": [],
    "workers": {"deaths": 2, "last_death": "it was killed by SIGKILL", "standby": "ready"},
}


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Path]:
    """Serve one connection on a Unix socket with ``answer``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        yield path
        server.join()


def test_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path / "s", json.dumps(STATUS).encode()) as path:
        assert cli.main(["status", "--socket", str(path), "--strict"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "client, up 00:01:05, 3 open flows; engines: fec simd, aead cryptography",
        "dsl",
        "5.00 %",
        "95.0 Mbit/s",
        "Data workers lost: 2, at last because it was killed by SIGKILL",
        render.number(4711),
    ):
        assert text in shown
    for text in ("bulk", "64/8", "fec.encode", "210"):
        assert text in shown


def test_json_is_what_the_appliance_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path / "s", json.dumps({"novel": 1}).encode()) as path:
        assert cli.main(["status", "--socket", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"novel": 1}


def test_degraded_is_said_by_strict_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ill = json.dumps({**STATUS, "fallbacks": [{"what": "GSO", "reason": "EINVAL"}]}).encode()
    for number, (options, code) in enumerate([([], 0), (["--strict"], 3)]):
        with answering(tmp_path / f"s{number}", ill) as path:
            assert cli.main(["status", "--socket", str(path), *options]) == code
    assert "what: GSO, reason: EINVAL" in capsys.readouterr().out
    assert is_degraded({"lanes": [{"state": "suspect"}]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*STATUS, "k", "m", "loss", "name"]), inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(sorted(STATUS)), JSON))
def test_no_status_breaks_the_screen(anything: dict[str, object]) -> None:
    with render.console().capture():
        render.console().print(document(anything))
    is_degraded(anything)


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="no VANTUN answers on"):
        status.ask(tmp_path / "absent")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "deaf"))
        with pytest.raises(NotRunningError, match="no VANTUN answers on"):
            status.ask(tmp_path / "deaf")


@pytest.mark.parametrize("answer", [b"", b"hello", b"[1]", b"\xff\xfe{"])
def test_somebody_else_answers(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "s", answer) as path, pytest.raises(VantunError, match="is no VANTUN"):
        status.ask(path)


def test_no_answer_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "TIMEOUT", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "slow"))
        listener.listen()
        with pytest.raises(NotRunningError, match="did not answer"):
            status.ask(tmp_path / "slow")


def test_the_socket_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "default_status_socket", lambda role: tmp_path / f"{role}.sock")
    assert cli.main(["status"]) == 1
    assert "no VANTUN runs here (looked for" in capsys.readouterr().err
    (tmp_path / "server.sock").touch()
    assert status.find_socket(None) == tmp_path / "server.sock"
    assert status.find_socket("client") == tmp_path / "client.sock"
    (tmp_path / "client.sock").touch()
    assert cli.main(["status"]) == 2
    assert "say which with --role" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "top", "reload"])
def test_the_file_names_the_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    file = tmp_path / "client.yaml"
    file.write_text(
        "server: gw.example.org:443\nauth: alice:secret-secret\ntls: {insecure: true}\n"
        "socks5: {listen: 127.0.0.1:1080}\nstatus: {socket: /nowhere/here.sock}\n"
    )
    assert cli.main([verb, "-c", str(file)]) == 1
    assert "no VANTUN answers on /nowhere/here.sock" in capsys.readouterr().err
    assert cli.main([verb, "-c", str(tmp_path / "absent.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_watching_waits_between_frames() -> None:
    waits: list[float] = []
    frames = list(islice(status.poll(lambda: {"n": len(waits)}, 2.5, waits.append), 3))
    assert frames == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert waits == [2.5, 2.5]


def test_watching_ends_with_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([{"n": 1}, {"n": 2}])

    def ask(_path: Path) -> status.Status:
        try:
            return dict(next(answers))
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(status, "ask", ask)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert cli.main(["status", "--socket", str(tmp_path), "--watch", "--json", "--interval", "0.1"]) == 0
    assert capsys.readouterr().out == '{"n": 1}\n{"n": 2}\n'


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("--paths", ["dsl", "search", "no answer"]),
        ("--flows", ["origin.example:80", "3 open flows, the 1 largest"]),
        ("--efficiency", ["coordination", "sockets and loop", "FEC"]),
    ],
)
def test_views(tmp_path: Path, capsys: pytest.CaptureFixture[str], view: str, said: list[str]) -> None:
    flows = {"open": 3, "largest": [{"session": "1", "flow": 4, "target": "origin.example:80", "sent_bytes": 10}]}
    paths = [{"name": "lte", "server": "gw:443", "state": "waiting", "reason": "no answer"}]
    found = {**STATUS, "flows": flows, "paths": paths}
    with answering(tmp_path / "x.sock", json.dumps(found).encode()) as path:
        assert cli.main(["status", "--socket", str(path), view]) == 0
    output = capsys.readouterr().out
    for word in said:
        assert word in output


@pytest.mark.parametrize("view", ["--paths", "--flows", "--efficiency"])
def test_views_of_nothing(tmp_path: Path, view: str) -> None:
    with answering(tmp_path / "x.sock", b"{}") as path:
        assert cli.main(["status", "--socket", str(path), view]) == 0


def test_the_tun_device_and_its_clients_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = {"session": "1f", "user": "alice", "addresses": ["10.9.0.2"], "prefixes": ["192.168.7.0/24"], "mtu": 1380}
    tun = {"name": "vantun0", "addresses": ["10.9.0.1/24"], "mtu": 1380, "clients": [client]}
    with answering(tmp_path / "x.sock", json.dumps({**STATUS, "tun": tun}).encode()) as path:
        assert cli.main(["status", "--socket", str(path)]) == 0
    output = capsys.readouterr().out
    assert "TUN vantun0: 10.9.0.1/24, MTU 1380" in output
    assert "192.168.7.0/24" in output


def test_a_tun_device_that_waits_says_why() -> None:
    tun = {"name": "vantun0", "addresses": [], "mtu": 1280, "state": "refused", "reason": "no address is free"}
    shown = "\n".join(str(part) for part in document({"tun": tun}).renderables)
    assert "no address, MTU 1280, refused: no address is free" in shown


def test_engines_are_shown_when_one_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    rungs = [
        {"engine": "qat", "state": "quarantined", "reason": "a batch missed its deadline", "failures": {"timeout": 2}},
        {"engine": "simd", "state": "serving", "failures": {}},
    ]
    watch = [{"operation": "aead.seal", "redone": 64, "audited": 3, "mismatched": 0, "lost": 0, "rungs": rungs}]
    render.show(document({**STATUS, "engine_watch": watch}))
    out = capsys.readouterr().out
    assert "timeout: 2" in out
    assert "64 redone, 3 audited, 0 mismatched, 0 lost" in out
    rungs[0]["failures"] = {}
    render.show(document({**STATUS, "engine_watch": watch}))
    assert "redone" not in capsys.readouterr().out


def test_gpu_services_have_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    service = {"engine": "cuda", "device": 1, "state": "waiting", "reason": "it was killed by SIGKILL", "restarts": 7}
    render.show(document({**STATUS, "gpu_services": [service]}))
    out = capsys.readouterr().out
    assert "GPU services" in out
    assert "SIGKILL" in out
    render.show(document({**STATUS, "gpu_services": []}))
    assert "GPU services" not in capsys.readouterr().out


def test_which_kernels_devices_have_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a device behind a service once, not for each worker that reaches it."""
    service = {"engine": "cuda", "device": 1, "state": "serving", "kernels": ["(10, 4): compiled"]}
    rungs = [{"engine": name, "kernels": ["(10, 4): general"]} for name in ("cuda", "opencl")] + [{"engine": "simd"}]
    watch = [{"operation": "fec.encode", "rungs": rungs}] * 2
    render.show(document({**STATUS, "gpu_services": [service], "engine_watch": watch}))
    out = capsys.readouterr().out
    assert "Kernels of cuda, device 1\n  (10, 4): compiled" in out
    assert "Kernels of opencl\n  (10, 4): general" in out
    assert out.count("Kernels of") == 2


def test_several_workers_have_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    each = [{"worker": index, "pid": 4711 + index, "cpu": index, "cpu_s": 1.5, "flows": 3} for index in range(2)]
    render.show(document({**STATUS, "workers": {"each": each, "deaths": 0}}))
    assert "4712" in capsys.readouterr().out
    render.show(document({**STATUS, "workers": {"each": each[:1], "deaths": 0}}))
    assert "4711" not in capsys.readouterr().out


def test_the_queues_of_a_tun_say_what_was_moved_and_why() -> None:
    why = "2 buckets of flows from worker 0 to 1: busy 97% and 2%"
    packets = {"steering": "program", "queues": [126, 130], "moved_buckets": 2, "followed_buckets": 1, "moves": [why]}
    tun = {"name": "vantun0", "packets": packets}
    shown = "\n".join(str(part) for part in document({"tun": tun}).renderables)
    assert "buckets 126, 130; moved 2, with the peer 1" in shown
    assert why in shown
