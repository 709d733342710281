"""``vantun demo``: a real transfer through two lossy paths, on this machine, in one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vantun.cli import render
from vantun.cli.accel_option import accel_option, chosen
from vantun.config_accel import ENVIRONMENT, AccelConfig
from vantun.config_units import parse_size
from vantun.demo.scene import DOWN, Settings
from vantun.errors import EXIT_OK, VerificationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vantun.demo.phase import PhaseFigures, Progress

SMALLEST = 1_000_000
"""Bytes of --size below which a download would be over before a path could be cut in its middle."""


def _size(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    try:
        size = int(text) if text.isdigit() else parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if size < SMALLEST:
        raise click.BadParameter(f"give at least {SMALLEST} bytes")
    return size


@click.command("demo", short_help="Show a transfer through two lossy paths, on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with every figure.")
@click.option(
    "--size", default=f"{DOWN // 10**6} MB", show_default=True, callback=_size, help="Of a download; uploads are half."
)
@accel_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Of losses and contents.")
def command(as_json: bool, size: int, accel: str | None, seed: int) -> int:  # noqa: FBT001 - click's calling convention
    """Run a server and a client with two emulated lossy paths between them, and load them through SOCKS5.

    Three times: without parity, with parity, and with parity while a path is cut. Every transfer's digest is checked;
    the exit code is 1 when one differs or a transfer breaks. Needs no root, and leaves nothing behind.
    """
    from vantun.demo.run import Demo

    chosen(AccelConfig(), accel)
    if accel is not None:
        os.environ[ENVIRONMENT] = accel  # for the appliances, which are processes of their own
    demo = Demo(Settings(down=size, up=size // 2, seed=seed))
    progress = demo.play()
    try:
        if as_json:
            for _ in progress:
                pass
        elif sys.stdout.isatty():
            render.screen(frame(step) for step in progress)
        else:
            for text in lines(progress):
                render.line(text)
    finally:
        # an interrupt that came between two steps must end the children, too
        progress.close()
    return conclude(demo.settings, demo.phases, as_json=as_json)


def conclude(settings: Settings, phases: Sequence[PhaseFigures], *, as_json: bool) -> int:
    """Print the figures and return the exit code; raise VerificationError when a transfer did not arrive as sent."""
    from vantun.demo.machine import facts
    from vantun.demo.report import document, notes, problems, table

    if as_json:
        render.json(document(settings, phases, facts()))
    else:
        render.show(table(phases))
        for note in notes(settings, phases):
            render.line(note)
    found = problems(phases)
    if found:
        raise VerificationError("\n".join(found))
    return EXIT_OK


def frame(step: Progress) -> RenderableType:
    """Return the live picture of a step."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_row(step.phase or "demo", step.doing, "")
    if step.down or step.up:
        for name, done, bits in (("download", step.down, step.down_rate), ("upload", step.up, step.up_rate)):
            grid.add_row(name, ProgressBar(total=1.0, completed=done, width=40), render.rate(bits))
        latency = render.MISSING if step.latency is None else f"{step.latency * 1e3:.0f} ms"
        grid.add_row("1 kB request", latency, "")
    return grid


def lines(progress: Iterator[Progress]) -> Iterator[str]:
    """Yield a line whenever something new is done: the progress for files and pipes."""
    shown = ("", "")
    for step in progress:
        if (step.phase, step.doing) != shown:
            shown = (step.phase, step.doing)
            yield f"{step.phase}: {step.doing}" if step.phase else step.doing
