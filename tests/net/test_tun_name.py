"""A server that is configured by its name, whose name server is where the default route of the tunnel leads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.net.appliances import wait_for
from tests.net.namespaces import Host
from tests.net.tun_town import EVERYTHING, SERVER, town
from tests.netns import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]


@contextmanager
def resolving(host: Host, server: str) -> Iterator[None]:
    """Give a namespace a resolv.conf of its own (ip-netns(8))."""
    folder = Path("/etc/netns") / host.name
    folder.mkdir(parents=True)
    try:
        (folder / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:1 attempts:1\n")
        yield
    finally:
        shutil.rmtree(folder)


def test_the_server_is_found_again_while_the_tunnel_is_down(tmp_path: Path, certificate: tuple[Path, str]) -> None:
    with town(tmp_path, certificate, {"nat": False, "clientToClient": True}, {"alice": EVERYTHING}) as made:
        alice = made.clients["alice"]
        file = alice.process.config_file
        file.write_text(file.read_text().replace(f"server: {SERVER}:443", "server: vpn.vantun.test:443"))
        made.server.serve("name_server", SERVER)
        try:
            with resolving(alice.host, SERVER):
                made.start()
                assert alice.host.json("ip", "-j", "route", "get", SERVER)[0]["dev"] == "vantun0"
                before = alice.process.status()["lanes"][0]["session"]
                made.process.kill()
                wait_for(lambda: alice.tun.get("state") != "up", "the tunnel is down", 60)
                made.process.start()
                made.process.wait_ready()
                wait_for(lambda: alice.tun.get("state") == "up", "the tunnel is up again", 60)
                assert alice.process.status()["lanes"][0]["session"] != before
                assert "its last address is used" not in alice.process.log
        finally:
            print(made.logs())  # noqa: T201 - pytest shows it when the test fails
