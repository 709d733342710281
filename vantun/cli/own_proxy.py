"""Where the client that runs here listens for programs, for commands that go through it."""

from __future__ import annotations

from pathlib import Path

from vantun.cli.status import ask, find_socket
from vantun.config_kinds import Endpoint, parse_endpoint
from vantun.errors import VantunError


def find_proxy(file: Path | None, verb: str) -> tuple[Endpoint, tuple[str, str] | None]:
    """Return where the client's SOCKS5 listens, and the login that it asks for.

    Parameters
    ----------
    file
        The client's configuration; None = its status is asked, which does not know the login.
    verb
        Who asks, for messages.

    Raises
    ------
    VantunError
        When no client runs here, or it has no SOCKS5 proxy.
    """
    if file is not None:
        from vantun.config import load_client

        socks5 = load_client(file).socks5
        if socks5 is None:
            raise VantunError(f"{file} has no SOCKS5 proxy, and `vantun {verb}` goes through it; add socks5.listen")
        return socks5.listen, (socks5.username, socks5.password) if socks5.username else None
    status = ask(find_socket("client"))
    socks = status.get("socks5")
    listen = socks.get("listen") if isinstance(socks, dict) else None
    if not isinstance(listen, str):
        raise VantunError("the client that runs here has no SOCKS5 proxy; name its file with -c")
    return parse_endpoint(listen), None
