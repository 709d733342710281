"""A file through the tunnel with another engine than this processor's own: every byte arrives."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.mark import ParameterSet

from tests.net.appliances import Pair, Process, curl, free_port, make_pair, origin, wait_for
from tests.net.conftest import furnish
from tests.pocl import works
from tests.present import skip_unless_there
from vantun.lab.link import LinkProfile
from vantun.lab.relay import Relay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"),
]


def parameter(named: str, serves: str, *marks: pytest.MarkDecorator) -> ParameterSet:
    """Return the engine that is named, and the one that then serves; skipped where that is not there."""
    return pytest.param(
        (named, serves), id=serves, marks=[works() if serves == "pocl" else skip_unless_there(serves), *marks]
    )


ENGINES = [parameter("opencl", "pocl"), parameter("cuda", "cuda", pytest.mark.hw_cuda)]
BLOB = random.Random(6).randbytes(400_000)


each_engine = pytest.mark.parametrize("engines", ENGINES)


@contextmanager
def served(
    folder: Path, certificate: tuple[Path, str], engines: tuple[str, str], only: str, **more: object
) -> Iterator[tuple[Pair, Relay]]:
    """Yield a pair behind a relay whose parity is computed by a device; ``more`` is for the section ``accel``."""
    named, serves = engines
    accel = {"fec": f"{only}{named}", "allow_emulated": serves == "pocl", "calibration": "off", **more}
    udp = free_port(socket.SOCK_DGRAM)
    with Relay.start([LinkProfile()], ("127.0.0.1", udp)) as relay:
        pair = make_pair(folder, furnish(folder, certificate), udp, tuple(relay.ports))
        for process in (pair.server, pair.client):
            config = yaml.safe_load(process.config_file.read_text())
            config |= {"accel": accel, "fec": {"overhead": "25 %"}, "workers": 1 if only else 2}
            process.config_file.write_text(yaml.safe_dump(config))
        try:
            pair.start()
            yield pair, relay
        finally:
            pair.kill()
            print(pair.logs())  # noqa: T201 - pytest shows it when a test fails


def service_of(process: Process) -> dict[str, Any]:
    """Return what the status says of the one GPU service."""
    [service] = process.status()["gpu_services"]
    assert isinstance(service, dict)
    return service


def serving(process: Process) -> bool:
    """Return whether the service is there and has done something."""
    service = service_of(process)
    return service["state"] == "serving" and int(service["launches"]) > 0


def crowded(process: Process) -> bool:
    """Return whether two workers have opened two operations each."""
    return int(service_of(process)["clients"]) == 4


@each_engine
@pytest.mark.parametrize("service", ["auto", "off"])
def test_a_file_through_a_device(
    service: str, engines: tuple[str, str], tmp_path: Path, certificate: tuple[Path, str]
) -> None:
    """By a service of each end, and by each worker for itself; nothing else computes parity."""
    with served(tmp_path, certificate, engines, "only: ", service=service) as (pair, relay):
        relay.set_profile(0, LinkProfile(rate=20e6, delay=0.01, loss=0.05))
        for process in (pair.server, pair.client):
            assert process.status()["engines"]["fec.encode"] == engines[1]
        with origin(BLOB) as site:
            loaded = curl("--socks5", f"127.0.0.1:{pair.socks}", f"http://127.0.0.1:{site}/blob")
            assert loaded.returncode == 0, loaded.stderr.decode()
            assert hashlib.sha256(loaded.stdout).hexdigest() == hashlib.sha256(BLOB).hexdigest()
        for process, operation in ((pair.server, "fec.encode"), (pair.client, "fec.decode")):
            [watch] = [each for each in process.status()["engine_watch"] if each["operation"] == operation]
            assert watch["rungs"][0]["engine"] == engines[1]
            assert watch["rungs"][0]["batches"] > 0
            if service == "auto":
                wait_for(partial(serving, process), "the service has counted")
                assert service_of(process)["restarts"] == 0
            else:
                assert process.status()["gpu_services"] == []


@each_engine
def test_killing_the_services_in_the_middle_costs_no_byte(
    engines: tuple[str, str], tmp_path: Path, certificate: tuple[Path, str]
) -> None:
    """Two workers at each end share a service; software takes over, and the next service is there soon."""
    blob = random.Random(7).randbytes(2_000_000)
    with served(tmp_path, certificate, engines, "") as (pair, relay), origin(blob) as site:
        relay.set_profile(0, LinkProfile(rate=4e6, delay=0.01, loss=0.03))
        file = tmp_path / "loaded"
        line = ["curl", "-sS", "--fail", "--noproxy", "", "--max-time", "120", "-o", str(file)]
        line += ["--socks5", f"127.0.0.1:{pair.socks}", f"http://127.0.0.1:{site}/blob"]
        ends = pair.server, pair.client
        for process in ends:
            wait_for(partial(crowded, process), "the service has counted")
        killed = [service_of(process)["pid"] for process in ends]
        with subprocess.Popen(line) as loading:
            wait_for(lambda: file.exists() and file.stat().st_size > 300_000, "a part has arrived")
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            assert file.stat().st_size < len(blob)
            assert loading.wait(120) == 0
        assert hashlib.sha256(file.read_bytes()).hexdigest() == hashlib.sha256(blob).hexdigest()
        for process, pid in zip(ends, killed, strict=True):
            wait_for(partial(serving, process), "the next one serves", 120)
            assert service_of(process)["restarts"] == 1
            assert service_of(process)["pid"] != pid
            assert "is lost: it was killed by SIGKILL" in process.log
            assert all(each["lost"] == 0 for each in process.status()["engine_watch"])
