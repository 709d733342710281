"""``vantun reload``: have a running appliance read its configuration again, and say what came of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click

from vantun.cli import render
from vantun.cli.status import Status, ask, chosen_socket, file_option
from vantun.errors import EXIT_OK, NotRunningError, VantunError

PATIENCE = 30.0
"""Seconds to wait for the result."""
_PAUSE = 0.1


@click.command("reload", short_help="Have a running appliance read its configuration again.")
@click.option("--socket", "path", type=click.Path(path_type=Path), help="Its status socket. [default: as in the file]")
@file_option
@click.option("--role", type=click.Choice(["server", "client"]), help="Which, if both run here.")
def command(path: Path | None, role: str | None) -> int:
    """Send SIGHUP to the appliance and wait for the result; a file with mistakes changes nothing, and exits with 1."""
    where = chosen_socket(path, role)
    before = ask(where)
    count, _, _ = _result(before)
    _signal(before)
    problem, waiting = wait(lambda: ask(where), count)
    if problem:
        raise VantunError(f"nothing was changed:\n{problem}")
    render.line("the configuration was read again")
    if waiting:
        render.line(f"needs a restart: {', '.join(waiting)}")
    return EXIT_OK


def wait(
    fetch: Callable[[], Status], count: int, pause: Callable[[float], None] | None = None
) -> tuple[str, list[str]]:
    """Return what was wrong, and what needs a restart, once there were more than ``count`` reloads.

    Raises
    ------
    VantunError
        When it does not.
    """
    for _ in range(round(PATIENCE / _PAUSE)):
        now, problem, waiting = _result(fetch())
        if now > count:
            return problem, waiting
        (pause or time.sleep)(_PAUSE)
    raise VantunError(f"the appliance has not read its configuration again within {PATIENCE:.0f} s; see its log")


def _result(status: Status) -> tuple[int, str, list[str]]:
    found = status.get("reload")
    if not isinstance(found, dict):
        raise VantunError("this appliance cannot read its configuration again; restart it")
    return int(found["count"]), str(found["problem"]), [str(name) for name in found["needs_restart"]]


def _signal(status: Status) -> None:
    pid = status.get("pid")
    if not isinstance(pid, int) or pid <= 1:
        raise VantunError("the status names no process; is it a VANTUN?")
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        raise NotRunningError("it has ended just now; start it again") from None
    except PermissionError:
        raise VantunError(f"process {pid} belongs to another user; reload as that user, or as root") from None
