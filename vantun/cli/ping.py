"""``vantun ping``: how long it takes to reach a target through the tunnel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import click

from vantun.cli import render
from vantun.cli.own_proxy import find_proxy
from vantun.config_kinds import Endpoint, parse_endpoint
from vantun.errors import EXIT_FAILURE, EXIT_OK, VantunError
from vantun.socks5_client import connect_through

_DEFAULT_PORT = 443


@click.command("ping", short_help="Time connections to a target through the tunnel.")
@click.argument("target")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="The client's file: proxy and login.")
@click.option("-n", "--count", type=click.IntRange(1, 10_000), default=4, show_default=True, help="Connections.")
@click.option("--interval", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="Seconds between.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=10.0, show_default=True, help="Seconds for each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: str, file: Path | None, count: int, interval: float, timeout: float, as_json: bool) -> int:  # noqa: FBT001
    """Open TCP connections to TARGET (host or host:port, without a port 443) through the client that runs here.

    The time is that of the whole way: to the server, and from there to the target. Exits with 1 when none succeeds.
    """
    where = _target(target)
    proxy, login = find_proxy(file, "ping")

    def once() -> None:
        connect_through((proxy.host or "127.0.0.1", proxy.port), (where.host, where.port), login, timeout).close()

    results = []
    for number in range(count):
        if number:
            time.sleep(interval)
        results.append(measure(once))
        if not as_json:
            spent, error = results[-1]
            said = error or f"{cast(float, spent) * 1e3:.1f} ms"
            render.line(f"{where} through {proxy}: {said}")
    good = sorted(spent for spent, _ in results if spent is not None)
    if as_json:
        render.json(
            {
                "target": str(where),
                "results": [{"seconds": spent, "error": error} for spent, error in results],
                "succeeded": len(good),
            }
        )
    elif good:
        low, mid, high = good[0] * 1e3, good[len(good) // 2] * 1e3, good[-1] * 1e3
        render.line(f"{len(good)} of {count} succeeded; least/median/most {low:.1f}/{mid:.1f}/{high:.1f} ms")
    return EXIT_OK if good else EXIT_FAILURE


def measure(once: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> tuple[float | None, str]:
    """Return (seconds, "") of one connection, or (None, why there is none)."""
    began = clock()
    try:
        once()
    except (VantunError, OSError) as error:
        return None, str(error) or "no answer in time"
    return clock() - began, ""


def _target(text: str) -> Endpoint:
    try:
        return parse_endpoint(text if ":" in text.rpartition("]")[2] else f"{text}:{_DEFAULT_PORT}")
    except ValueError as error:
        raise click.UsageError(f"{text}: {error}") from None
