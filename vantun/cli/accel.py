"""``vantun accel``: which engines this machine has for parity and encryption, and which of them serve."""

from __future__ import annotations

import click

from vantun.cli import accel_bench, accel_explain, accel_probe, accel_warm


@click.group("accel", short_help="Show the engines that compute parity and encryption.")
def command() -> None:
    """Look at the engines of this machine, and prepare them."""


command.add_command(accel_warm.warm)
command.add_command(accel_bench.command)
command.add_command(accel_explain.command)
command.add_command(accel_probe.command)
