"""``vantun top``: what a running appliance does at this moment, and what limits its throughput.

It asks for the status twice and shows the difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli import render
from vantun.cli.status import Status, ask, chosen_socket, file_option
from vantun.cli.top_limits import Finding, findings
from vantun.cli.top_rates import Rates, rates
from vantun.cli.top_view import document, view
from vantun.errors import EXIT_OK, NotRunningError

if TYPE_CHECKING:
    from rich.console import RenderableType

Sample = tuple[Rates | None, list[Finding]]


@click.command("top", short_help="Show live what a running appliance does, and what limits it.")
@click.option("--socket", "path", type=click.Path(path_type=Path), help="Its status socket. [default: as in the file]")
@file_option
@click.option("--role", type=click.Choice(["server", "client"]), help="Which, if both run here.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds of one sample."
)
@click.option("--once", is_flag=True, help="Show one sample; this is so, too, where output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one sample as JSON.")
def command(
    path: Path | None,
    role: str | None,
    interval: float,
    once: bool,  # noqa: FBT001 - click's calling convention
    as_json: bool,  # noqa: FBT001
) -> int:
    """Show stages, paths, channels and engines as rates, and name what limits throughput, why, and what to do.

    Ends with Ctrl-C. An appliance that stops meanwhile is waited for.
    """
    where = chosen_socket(path, role)
    first = ask(where)
    samples = sample(lambda: ask(where), first, interval)
    if once or as_json or not render.is_terminal():
        found, said = next(samples)
        if as_json:
            render.json(document(found, said))
        else:
            render.show(view(found, said, render.console()))
        return EXIT_OK
    try:
        render.screen(frames(lambda: ask(where), first, interval))
    except KeyboardInterrupt:
        return EXIT_OK
    return EXIT_OK


def sample(
    fetch: Callable[[], Status],
    first: Status,
    interval: float,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sample]:
    """Yield what happened within each ``interval`` (seconds) after ``first``, for ever, or until ``fetch`` raises."""
    before, began = first, clock()
    while True:
        wait(interval)
        after, now = fetch(), clock()
        yield rates(before, after, now - began), findings(before, after, now - began)
        before, began = after, now


def frames(
    fetch: Callable[[], Status],
    first: Status,
    interval: float,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[RenderableType]:
    """Yield what the terminal shows, for ever; while nobody answers, a line that says so."""
    from rich.text import Text

    yield Text(f"measuring for {interval:g} s ...")
    samples = sample(fetch, first, interval, wait, clock)
    while True:
        try:
            found, said = next(samples)
        except NotRunningError as error:
            yield Text(f"{error}\nWaiting for it; Ctrl-C ends this.", style="yellow")
            # its counters may have begun anew meanwhile, and how long they have been counting, nobody knows
            samples = sample(fetch, {}, interval, wait, clock)
            continue
        console = render.console()
        yield view(found, said, console, console.height)
