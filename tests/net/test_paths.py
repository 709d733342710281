"""Paths from the system's interfaces: they come and go under a download, which notices nothing."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.net.appliances import Process, wait_for
from tests.net.conftest import furnish
from tests.net.namespaces import Host, hosts, link
from tests.netns import ip, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

SERVER = "10.99.0.1"
SIZE = 40_000_000
RATE = "4M"


def add_way(client: Host, server: Host, number: int) -> str:
    """Connect the two by another network, with a default route; return the client's interface."""
    near, _ = link(client, server, [f"10.81.{number}.2/24"], [f"10.81.{number}.1/24"])
    ip("-n", client.name, "route", "add", "default", "via", f"10.81.{number}.1", "dev", near, "metric", str(number))
    return near


def paths(client: Process) -> dict[str, str]:
    """Return the state of every path by its name."""
    found = client.status().get("paths", [])
    assert all(path["origin"] == "system" and path["priority"] == "primary" for path in found)
    return {path["name"]: path["state"] for path in found}


def until(client: Process, condition: Callable[[dict[str, str]], bool], what: str) -> float:
    """Wait until the paths are so; return the seconds that it took."""
    began = time.monotonic()
    wait_for(lambda: condition(paths(client)), f"{what}\n{client.log}")
    return time.monotonic() - began


def appliances(near: Host, far: Host, folder: Path, fingerprint: str) -> tuple[Process, Process]:
    ip("-n", far.name, "address", "add", f"{SERVER}/32", "dev", "lo")
    common = {"limits": {"memory": "64 MB"}}
    auth = {"type": "userpass", "userpass": {"alice": "s3cret"}}
    rules = {"acl": {"inline": ["allow(127.0.0.0/8)"]}, "tls": {"cert": "cert.pem", "key": "key.pem"}}
    server = far.appliance(folder, "server", {"listen": f"{SERVER}:443", "auth": auth, **rules, **common})
    settings = {
        "server": f"{SERVER}:443",
        "auth": "alice:s3cret",
        "tls": {"pinSHA256": fingerprint},
        "socks5": {"listen": "127.0.0.1:1080"},
        "multipath": {"auto": True, "exclude": ["docker*"]},
    }
    return server, near.appliance(folder, "client", {**settings, **common})


def test_interfaces_come_and_go_under_a_download(tmp_path: Path, certificate: tuple[Path, str]) -> None:
    data = random.Random(5).randbytes(SIZE)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "data").write_bytes(data)
    with hosts(2) as (near, far):
        server, client = appliances(near, far, tmp_path, furnish(tmp_path, certificate))
        first = add_way(near, far, 1)
        far.spawn(sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1", "-d", str(tmp_path / "pages"))
        server.start()
        server.wait_ready()
        client.start()
        client.wait_ready()
        assert set(paths(client)) == {first}
        second = add_way(near, far, 2)
        took = {"the second joins": until(client, lambda now: now.get(second) == "up", "the second interface joins")}

        got = tmp_path / "got"
        ways = ("--socks5-hostname", "127.0.0.1:1080", "--limit-rate", RATE, "-o", str(got))
        curl = near.spawn("curl", "-sS", "--fail", "--max-time", "120", *ways, "http://127.0.0.1:8080/data")

        def more() -> None:
            """Wait for another megabyte."""
            before = got.stat().st_size if got.exists() else 0
            wait_for(lambda: got.exists() and got.stat().st_size > before + 1_000_000, f"it goes on\n{client.log}")

        more()
        ip("-n", near.name, "link", "del", first)
        took["the first goes"] = until(client, lambda now: set(now) == {second}, "the first is ended at once")
        more()
        third = add_way(near, far, 3)
        took["a third joins"] = until(client, lambda now: now.get(third) == "up", "a new interface joins")
        ip("-n", near.name, "link", "set", second, "down")
        took["the second goes"] = until(client, lambda now: set(now) == {third}, "the one without carrier is ended")
        more()
        ip("-n", near.name, "link", "set", second, "up")
        ip("-n", near.name, "route", "add", "default", "via", "10.81.2.1", "dev", second, "metric", "2")
        took["the second is back"] = until(client, lambda now: now.get(second) == "up", "it comes back by itself")
        output, _ = curl.communicate(timeout=120)
        assert curl.returncode == 0, f"{output}\n{client.log}\n{server.log}"
        assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(data).digest()
        assert client.log.count("is lost") == 0, client.log
        print("; ".join(f"{what} within {seconds:.2f} s" for what, seconds in took.items()))  # noqa: T201 - for -s
