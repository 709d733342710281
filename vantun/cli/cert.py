"""``vantun cert self-signed|fingerprint``: a server's certificate when there is no authority, and its pin."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import click

from vantun.cli import render
from vantun.errors import EXIT_OK, ResourceError, VantunError

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


@click.group("cert", short_help="Make a certificate, or print its fingerprint.")
def command() -> None:
    """Make a certificate, or print its fingerprint."""


@command.command("self-signed", short_help="Make a certificate that clients pin.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--cert", type=click.Path(path_type=Path), default=Path("cert.pem"), show_default=True, help="Written.")
@click.option(
    "--key", type=click.Path(path_type=Path), default=Path("key.pem"), show_default=True, help="Written, 0600."
)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
def self_signed(names: tuple[str, ...], cert: Path, key: Path, days: int) -> int:
    """Make a key and a certificate for the host NAMEs or addresses that clients use; overwrites nothing."""
    present = [str(path) for path in (cert, key) if path.exists()]
    if present:
        raise ResourceError(
            f"{' and '.join(present)} exist(s) and stay(s); move away, or name others with --cert, --key"
        )
    from vantun.control.certificates import create_self_signed

    create_self_signed(cert, key, names, days)
    render.line(f"{cert} and {key}: written, valid for {days} days")
    render.line(f"pinSHA256: {fingerprint_of(cert)}")
    return EXIT_OK


@command.command("fingerprint", short_help="Print what a client pins.")
@click.argument("file", type=click.Path(path_type=Path))
def fingerprint(file: Path) -> int:
    """Print the SHA-256 of the first certificate in FILE (PEM), for the client's tls.pinSHA256."""
    render.line(fingerprint_of(file))
    return EXIT_OK


def fingerprint_of(path: Path) -> str:
    """Return the SHA-256 of the first certificate of a PEM file, over its DER bytes, as 64 hex digits.

    Raises
    ------
    VantunError
        When the file holds no certificate.
    """
    # ssl is imported here because it costs more than all of click.
    import ssl

    found = _PEM.search(path.read_bytes())
    try:
        der = ssl.PEM_cert_to_DER_cert(found[0].decode("ascii")) if found else b""
    except ValueError:
        der = b""
    if not der:
        raise VantunError(f"{path} holds no PEM certificate; name the file of tls.cert")
    return hashlib.sha256(der).hexdigest()
