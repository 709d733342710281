"""``vantun speedtest`` against a real server, through a real client."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.net.appliances import Pair, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def speedtest(pair: Pair, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vantun", "speedtest", "-c", str(pair.client.config_file), "--json", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


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
