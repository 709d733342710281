"""``vantun config init server|client``: an example file to start from."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import cast

import click

from vantun.cli import render
from vantun.config_schema import Role
from vantun.config_text import example_file
from vantun.errors import EXIT_OK, ResourceError


@click.group("config", short_help="Write a configuration to start from.")
def command() -> None:
    """Write a configuration to start from."""


@command.command("init", short_help="Print or write an example file.")
@click.argument("role", type=click.Choice(["server", "client"]))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write this file, which must not exist yet.")
def init(role: str, output: Path | None) -> int:
    """Print a valid example for ROLE, in which every key is explained; a server's has a fresh password."""
    password = secrets.token_urlsafe(18) if role == "server" else "the-password-in-server.yaml"
    text = example_file(cast("Role", role), password)
    if output is None:
        render.text(text)
        return EXIT_OK
    try:
        # Only its owner may read it: it holds a password.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ResourceError(f"{output} exists and is left as it is; name another file, or move it away") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    render.line(f"{output}: written; adapt it, then `vantun check config {output}`")
    return EXIT_OK
