"""``vantun client -c FILE``: run a client until it is told to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli.accel_option import accel_option, chosen

if TYPE_CHECKING:
    from vantun.config import ClientConfig


@click.command("client", short_help="Run a client.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), required=True, help="client.yaml")
@accel_option
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Whatever log.format says.")
def command(file: Path, accel: str | None, log_format: str | None) -> int | None:
    """Run a client until SIGINT or SIGTERM. `vantun config init client` writes a file to start from."""

    def load() -> ClientConfig:
        from vantun.config import load_client

        config = load_client(file)
        config = replace(config, accel=chosen(config.accel, accel))
        return replace(config, log_format=log_format) if log_format else config

    from vantun.control.nursery import Nursery

    with Nursery.plant("vantun.control.client") as nursery:  # before anything secret is read
        from vantun.control.appliance import run_client
        from vantun.control.reload import ConfigSource

        return run_client(load(), ConfigSource(file, load), nursery)
