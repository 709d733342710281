"""``vantun server -c FILE``: run a server until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from vantun.config import load_server


@click.command("server", short_help="Run a server.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), required=True, help="server.yaml")
def command(file: Path) -> int | None:
    """Run a server until SIGINT or SIGTERM. `vantun config init server` writes a file to start from."""
    config = load_server(file)
    from vantun.control.appliance import run_server

    return run_server(config)
