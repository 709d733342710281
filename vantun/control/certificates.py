"""Certificates: making a server's own, loading it, and what a client accepts."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vantun.config import ClientTlsConfig, ServerTlsConfig
from vantun.errors import ResourceError

_MAKE = "`vantun cert self-signed` makes a certificate and its key"


def create_self_signed(cert: Path, key: Path, names: Sequence[str], days: int) -> None:
    """Write a P-256 key (0600) and a certificate for host names or addresses; ResourceError rather than overwrite."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    start = datetime.now(UTC) - timedelta(hours=1)  # the client's clock may be a little behind
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(key, secret, 0o600)
    try:
        _write_new(cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except BaseException:
        key.unlink()
        raise


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        try:
            return x509.DNSName(name)
        except ValueError:
            raise ResourceError(f"{name!r} is neither a host name nor an address; give names in ASCII") from None


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ResourceError(f"{path} exists and stays; move it away, or name another file") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def load_server(configuration: QuicConfiguration, tls: ServerTlsConfig) -> None:
    """Put certificate chain and key into ``configuration``; raises ResourceError with what is wrong with which file."""
    for name, path in (("tls.cert", tls.cert), ("tls.key", tls.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ResourceError(f"{name}: {path}: {error.strerror}; {_MAKE}") from None
    try:
        configuration.load_cert_chain(tls.cert, tls.key)
    except (ValueError, TypeError, IndexError) as error:
        raise ResourceError(f"{tls.cert} and {tls.key} are no PEM certificate and key ({error}); {_MAKE}") from None
    public = configuration.certificate.public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != configuration.private_key.public_key().public_bytes(*form):
        raise ResourceError(f"{tls.key} is not the key of the first certificate in {tls.cert}; put the matching pair")


def trust(configuration: QuicConfiguration, tls: ClientTlsConfig, host: str) -> None:
    """Put into ``configuration`` what a client accepts. A pin is checked by :func:`is_pinned` after the handshake."""
    configuration.server_name = tls.sni or host
    if tls.pin_sha256 or tls.insecure:
        # CertificateVerify is checked all the same: the server has the key of the certificate that it shows
        configuration.verify_mode = ssl.CERT_NONE
        return
    configuration.verify_mode = ssl.CERT_REQUIRED
    if tls.ca is not None:
        if not tls.ca.is_file():
            raise ResourceError(f"tls.ca: {tls.ca} cannot be read; name a PEM file with the authorities to trust")
        configuration.cafile = str(tls.ca)
        return
    system = ssl.get_default_verify_paths()  # without any, aioquic takes certifi's
    configuration.cafile, configuration.capath = system.cafile, system.capath


def is_pinned(certificate: Any, pin: str) -> bool:
    """Return whether the SHA-256 of an x509 certificate's DER is ``pin`` (64 hex digits)."""
    return hmac.compare_digest(fingerprint(certificate), pin.lower())


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER as 64 hex digits."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
