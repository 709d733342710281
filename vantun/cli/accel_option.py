"""The option ``--accel`` of every verb that runs engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vantun.config_accel import AccelConfig, override

Function = TypeVar("Function", bound=Callable[..., Any])


def accel_option(function: Function) -> Function:
    """Add the option."""
    return click.option(
        "--accel",
        metavar="aead=...,fec=...",
        help="Engines instead of the file's, as in `accel`; `off` = the reference alone. Wins over VANTUN_ACCEL.",
    )(function)


def chosen(config: AccelConfig, text: str | None) -> AccelConfig:
    """Return ``config`` with what the option, else the environment, says instead. Raises click.UsageError."""
    try:
        return override(config, text)
    except ValueError as error:
        raise click.UsageError(f"--accel: {error}" if text is not None else f"VANTUN_ACCEL: {error}") from None
