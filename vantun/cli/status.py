"""``vantun status``: ask a running appliance how it is, over its Unix socket.

The appliance writes one JSON document to whoever connects, then closes. Unknown keys are shown by ``--json`` only.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import click

from vantun.cli import render
from vantun.cli.status_view import document, efficiency, flows, is_degraded, paths
from vantun.config import default_status_socket, load_client, load_server
from vantun.config_schema import Role, role_of
from vantun.errors import EXIT_DEGRADED, EXIT_OK, NotRunningError, VantunError

TIMEOUT = 5.0
"""Seconds to wait for an answer."""
LARGEST_ANSWER = 2**24
"""Bytes."""

Status = dict[str, object]
_FILE = "vantun.file"
"""Place of the file that -c names among the facts of a command."""


def _note_file(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    context.meta[_FILE] = file


file_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_note_file,
    help="Its file, which names the socket.",
)
"""Of commands that ask :func:`chosen_socket`."""
VIEWS = {"all": document, "paths": paths, "flows": flows, "efficiency": efficiency}


@click.command("status", short_help="Show paths, channels, stages and fallbacks of a running appliance.")
@click.option("--socket", "path", type=click.Path(path_type=Path), help="Its status socket. [default: as in the file]")
@file_option
@click.option("--role", type=click.Choice(["server", "client"]), help="Which, if both run here.")
@click.option("--paths", "view", flag_value="paths", help="Show everything about paths.")
@click.option("--flows", "view", flag_value="flows", help="Show the flows that have carried most.")
@click.option("--efficiency", "view", flag_value="efficiency", help="Show what bytes and processor time were spent on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Refresh until interrupted; with --json one line each time.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds, for --watch."
)
@click.option("--strict", is_flag=True, help="Exit with 3 when it works but degraded.")
def command(
    path: Path | None,
    role: str | None,
    view: str | None,
    as_json: bool,  # noqa: FBT001
    watch: bool,  # noqa: FBT001
    interval: float,
    strict: bool,  # noqa: FBT001
) -> int:
    """Show per path RTT, loss and rate; per channel what was recovered and re-sent; per stage its cost."""
    where = chosen_socket(path, role)
    show = VIEWS[view or "all"]
    if watch:
        statuses = poll(lambda: ask(where), interval)
        try:
            if as_json:
                for status in statuses:
                    render.json(status, indent=None)
            else:
                render.screen(show(status) for status in statuses)
        except KeyboardInterrupt:
            return EXIT_OK
    status = ask(where)
    if as_json:
        render.json(status)
    else:
        render.show(show(status))
    return EXIT_DEGRADED if strict and is_degraded(status) else EXIT_OK


def poll(fetch: Callable[[], Status], interval: float, wait: Callable[[float], None] = time.sleep) -> Iterator[Status]:
    """Yield a status now and after every ``interval`` seconds, for ever."""
    while True:
        yield fetch()
        wait(interval)


def find_socket(role: Role | None) -> Path:
    """Return the default socket of ``role``, or of the only appliance that runs here."""
    if role:
        return default_status_socket(role)
    roles: tuple[Role, ...] = ("client", "server")
    places = {name: default_status_socket(name) for name in roles}
    present = {name: place for name, place in places.items() if place.exists()}
    if len(present) > 1:
        raise click.UsageError("a client and a server run here; say which with --role")
    if not present:
        looked = " and ".join(map(str, places.values()))
        raise NotRunningError(f"no VANTUN runs here (looked for {looked}); start one, or name its socket with --socket")
    return next(iter(present.values()))


def chosen_socket(path: Path | None, role: str | None) -> Path:
    """Return the status socket that the options --socket, -c and --role of this command choose. Raises VantunError."""
    return path or socket_of(click.get_current_context().meta.get(_FILE), cast("Role | None", role))


def socket_of(file: Path | None, role: Role | None) -> Path:
    """Return the status socket that ``file`` names, or the one of the appliance that runs here. Raises VantunError."""
    if file is None:
        return find_socket(role)
    said = role or role_of(file)
    config = load_server(file) if said == "server" else load_client(file)
    return config.status_socket or default_status_socket(said)


def ask(path: Path) -> Status:
    """Return the status that the appliance at ``path`` reports.

    Raises
    ------
    NotRunningError
        When nobody answers there.
    VantunError
        When the answer is no status.
    """
    try:
        raw = _read(path)
    except (FileNotFoundError, ConnectionError):
        raise NotRunningError(f"no VANTUN answers on {path}; start one, or name its socket with --socket") from None
    except PermissionError:
        raise NotRunningError(f"{path} may not be opened by this user; ask as the user who runs VANTUN") from None
    except TimeoutError:
        raise NotRunningError(f"{path} did not answer within {TIMEOUT:.0f} s; is the appliance overloaded?") from None
    try:
        status = json.loads(raw)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        raise VantunError(f"what answers on {path} is no VANTUN: it sent {len(raw)} bytes that are no status")
    return status


def _read(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(str(path))
        parts = bytearray()
        while len(parts) <= LARGEST_ANSWER and (part := connection.recv(65536)):
            parts += part
    return bytes(parts)
