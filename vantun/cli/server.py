"""``vantun server -c FILE``: run a server until it is told to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli.accel_option import accel_option, chosen

if TYPE_CHECKING:
    from vantun.config import ServerConfig


@click.command("server", short_help="Run a server.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), required=True, help="server.yaml")
@accel_option
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Whatever log.format says.")
def command(file: Path, accel: str | None, log_format: str | None) -> int | None:
    """Run a server until SIGINT or SIGTERM. `vantun config init server` writes a file to start from."""

    def load() -> ServerConfig:
        from vantun.config import load_server

        config = load_server(file)
        config = replace(config, accel=chosen(config.accel, accel))
        return replace(config, log_format=log_format) if log_format else config

    from vantun.control.nursery import Nursery

    with Nursery.plant("vantun.control.server") as nursery:  # before anything secret is read
        from vantun.control.appliance import run_server
        from vantun.control.reload import ConfigSource

        return run_server(load(), ConfigSource(file, load), nursery)
