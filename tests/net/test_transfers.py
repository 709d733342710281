"""A real program's transfers through real processes: every byte arrives, at any loss."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.appliances import Pair, curl, free_port, make_pair, origin, wait_for
from tests.net.conftest import furnish
from vantun.lab.link import LinkProfile
from vantun.lab.relay import Relay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"),
]

BLOB = random.Random(5).randbytes(3_000_000)


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    with origin(BLOB) as port:
        yield port


def transfers(proxy: list[str], host: str, site: int, folder: Path) -> None:
    """Download and upload through the proxy, and compare digests."""
    loaded = curl(*proxy, f"http://{host}:{site}/blob")
    assert loaded.returncode == 0, loaded.stderr.decode()
    assert hashlib.sha256(loaded.stdout).hexdigest() == hashlib.sha256(BLOB).hexdigest()
    (folder / "up").write_bytes(BLOB[::-1])
    stored = curl(*proxy, "-H", "Expect:", "-T", str(folder / "up"), f"http://{host}:{site}/up")
    assert stored.returncode == 0, stored.stderr.decode()
    assert stored.stdout.decode() == hashlib.sha256(BLOB[::-1]).hexdigest()


@pytest.mark.parametrize(("option", "host"), [("--socks5", "127.0.0.1"), ("--socks5-hostname", "localhost")])
def test_without_loss(running: Pair, site: int, tmp_path: Path, option: str, host: str) -> None:
    transfers([option, f"127.0.0.1:{running.socks}"], host, site, tmp_path)


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[tuple[Pair, Relay]]:
    """Yield a pair with two paths, and the relay that both take."""
    folder = tmp_path_factory.mktemp("lossy")
    udp = free_port(socket.SOCK_DGRAM)
    with Relay.start([LinkProfile(), LinkProfile()], ("127.0.0.1", udp)) as relay:
        pair = make_pair(folder, furnish(folder, certificate), udp, tuple(relay.ports))
        try:
            pair.start()
            yield pair, relay
        finally:
            pair.kill()
            print(pair.logs())  # noqa: T201 - pytest shows it when a test fails


def states(pair: Pair) -> dict[str, str]:
    """Return what the client's lanes say, by name of the path."""
    return {lane["name"]: lane["state"] for lane in pair.client.status().get("lanes", ())}


BOTH = {"path0": "active", "path1": "active"}


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.15])
def test_over_two_lossy_paths(lossy: tuple[Pair, Relay], site: int, tmp_path: Path, loss: float) -> None:
    pair, relay = lossy
    for path in (0, 1):
        relay.set_profile(path, LinkProfile(rate=100e6, delay=0.02, loss=loss))
    wait_for(lambda: states(pair) == BOTH, "both paths are active")
    assert len({lane["session"] for lane in pair.client.status()["lanes"]}) == 1
    transfers(["--socks5", f"127.0.0.1:{pair.socks}"], "127.0.0.1", site, tmp_path)
    transfers(["--socks5-hostname", f"127.0.0.1:{pair.socks}"], "localhost", site, tmp_path)


def test_a_path_that_is_cut_comes_back(lossy: tuple[Pair, Relay], site: int, tmp_path: Path) -> None:
    pair, relay = lossy
    before = {lane["path"] for lane in pair.client.status()["lanes"]}
    relay.cut(0)
    transfers(["--socks5", f"127.0.0.1:{pair.socks}"], "127.0.0.1", site, tmp_path)
    wait_for(lambda: "path0" not in states(pair), "the dead path is torn down")
    assert states(pair) == {"path1": "active"}
    relay.restore(0)
    wait_for(lambda: states(pair) == BOTH, "it is set up again")
    assert len({lane["path"] for lane in pair.client.status()["lanes"]} - before) == 1, "under a new number"


def test_a_refused_connection_is_a_quick_answer(running: Pair) -> None:
    closed = free_port(socket.SOCK_STREAM)
    refused = curl("--socks5", f"127.0.0.1:{running.socks}", "--max-time", "5", f"http://127.0.0.1:{closed}/")
    assert refused.returncode == 97, refused.stderr.decode()
    assert b"(5)" in refused.stderr
