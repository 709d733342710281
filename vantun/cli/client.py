"""``vantun client -c FILE``: run a client until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from vantun.config import load_client


@click.command("client", short_help="Run a client.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), required=True, help="client.yaml")
def command(file: Path) -> int | None:
    """Run a client until SIGINT or SIGTERM. `vantun config init client` writes a file to start from."""
    config = load_client(file)
    from vantun.control.appliance import run_client

    return run_client(config)
