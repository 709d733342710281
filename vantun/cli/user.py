"""``vantun user hash``: what stands in a server's file instead of a password."""

from __future__ import annotations

import sys

import click

from vantun.cli import render
from vantun.errors import EXIT_OK, VantunError
from vantun.password_hash import LN, make_hash

_LONGEST = 1024
"""Bytes of a password."""


@click.group("user", short_help="Make a hash of a user's password.")
def command() -> None:
    """Users of a server."""


@command.command("hash", short_help="Print the hash of a password.")
@click.option("--ln", type=click.IntRange(14, 17), default=LN, show_default=True, help="Rounds, as a power of two.")
def hash_password(ln: int) -> int:
    """Ask for a password, or read a line of standard input, and print its scrypt hash for auth.userpass."""
    render.line(make_hash(_password(), ln))
    return EXIT_OK


def _password() -> str:
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != text:
            raise VantunError("the two passwords are different; try again")
    else:
        text = sys.stdin.readline(_LONGEST + 1).rstrip("\r\n")
    if not text:
        raise VantunError("the password is empty; type one, or send one line to standard input")
    if len(text.encode()) > _LONGEST:
        raise VantunError(f"the password is longer than {_LONGEST} bytes; choose a shorter one")
    return text
