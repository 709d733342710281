"""``vantun speedtest`` against a real server, through a real client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.net.appliances import Pair, wait_for
from tests.net.test_proxies import reconfigure
from vantun import cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def speedtest(pair: Pair, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vantun", "speedtest", "-c", str(pair.client.config_file), "--json", *options]
    # A shell starts what runs in its background with SIGINT ignored; from a terminal it is not.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, dict[str, Any], str]:
    """Return exit code, document and what was complained about."""
    out, error = process.communicate(timeout=120)
    return process.returncode, json.loads(out or b"{}"), error.decode()


def test_streams_both_ways(running: Pair) -> None:
    code, found, error = finish(speedtest(running, "--duration", "0.5", "--streams", "2"))
    assert code == 0, error
    assert found["kind"] == "streams"
    assert found["idle"]["count"] > 0
    assert 0 < found["idle"]["p50_ms"] <= found["idle"]["p99_ms"]
    for way in ("download", "upload"):
        assert found[way]["bytes"] > 0
        assert found[way]["bits_per_second"] > 0
    assert found["error"] is None
    assert running.server.status()["speedtest"]["begun"] >= 7  # 2 streams each way, and 3 times exchanges


def test_datagrams_both_ways(running: Pair) -> None:
    code, found, error = finish(speedtest(running, "--duration", "0.5", "--udp", "--rate", "2M", "--size", "500"))
    assert code == 0, error
    for way in ("download", "upload"):
        account = found[way]
        assert 0 < account["received"] <= account["sent"] <= 250
        assert account["lost"] == account["sent"] - account["received"]
        assert account["duplicated"] == 0
    wait_for(lambda: running.server.status()["speedtest"]["flows"] == 0, "every flow of the test has ended")


def under_way(pair: Pair) -> bool:
    """Tell whether a stream and the exchanges beside it are open: the download has begun."""
    return bool(pair.server.status()["speedtest"]["flows"] == 2)


def test_interrupted_it_prints_what_it_has(running: Pair) -> None:
    process = speedtest(running, "--duration", "30", "--streams", "1")
    wait_for(lambda: under_way(running), "the download has begun")
    process.send_signal(signal.SIGINT)
    code, found, error = finish(process)
    assert code == 1
    assert "interrupted" in error
    assert found["interrupted"] is True
    assert found["idle"]["count"] > 0
    assert found["upload"] is None


def test_switched_off_by_a_reload_and_a_server_that_dies(pair: Pair) -> None:
    pair.start()
    reconfigure(pair.server, speedTest=False)
    assert cli.main(["reload", "--socket", str(pair.server.socket)]) == 0
    wait_for(lambda: not pair.server.status()["speedtest"]["enabled"], "the server has read its file again")
    code, found, error = finish(speedtest(pair, "--duration", "0.5"))
    assert code == 1
    assert "speedTest: false" in error
    assert "speedTest: false" in found["error"]

    reconfigure(pair.server, speedTest=True)
    assert cli.main(["reload", "--socket", str(pair.server.socket)]) == 0
    wait_for(lambda: pair.server.status()["speedtest"]["enabled"], "the server has read its file again")
    process = speedtest(pair, "--duration", "60", "--streams", "1")
    wait_for(lambda: under_way(pair), "the download has begun")
    pair.server.kill()
    code, found, error = finish(process)
    assert code == 1
    assert found["error"]
    assert found["download"] is not None
    pair.client.kill()
    code, _, error = finish(speedtest(pair))
    assert code == 1
    assert "no client listens on" in error
