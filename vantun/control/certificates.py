"""Certificates: making a server's own, loading it, and what a client accepts."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vantun.config import ClientTlsConfig, ServerTlsConfig
from vantun.errors import ResourceError

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_MAKE = "`vantun cert self-signed` makes a certificate and its key"
_AUTHORITIES = "name a PEM file with the authorities to trust"


def create_self_signed(cert: Path, key: Path, names: Sequence[str], days: int) -> None:
    """Write a P-256 key (0600) and a certificate for host names or addresses.

    Raises
    ------
    ResourceError
        When a name is none, or a file exists (it stays) or cannot be written; then neither file is left behind.
    """
    subjects = [_general_name(name) for name in names]
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
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
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
        if not _HOST.fullmatch(name):
            raise ResourceError(
                f"{name!r} is neither a host name nor an address; give names in ASCII (xn--... for others)"
            ) from None
        return x509.DNSName(name)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike a rename, it replaces nothing
        finally:
            draft.unlink()
    except FileExistsError:
        raise ResourceError(f"{path} exists and stays; move it away, or name another file") from None
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}; name a file in another folder") from None


def load_server(configuration: QuicConfiguration, tls: ServerTlsConfig) -> None:
    """Put certificate chain and key into ``configuration``; raises ResourceError with what is wrong with which file."""
    for name, path in (("tls.cert", tls.cert), ("tls.key", tls.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ResourceError(f"{name}: {path}: {error.strerror}; {_MAKE}") from None
    try:
        configuration.load_cert_chain(tls.cert, tls.key)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        raise ResourceError(f"{tls.cert} and {tls.key} are no PEM certificate and key ({error}); {_MAKE}") from None
    public = configuration.certificate.public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != configuration.private_key.public_key().public_bytes(*form):
        raise ResourceError(f"{tls.key} is not the key of the first certificate in {tls.cert}; put the matching pair")


def trust(configuration: QuicConfiguration, tls: ClientTlsConfig, host: str) -> None:
    """Put into ``configuration`` what a client accepts. A pin is checked by :func:`is_pinned` after the handshake."""
    configuration.server_name = _name(tls.sni or host)
    if tls.pin_sha256 or tls.insecure:
        # CertificateVerify is checked all the same: the server has the key of the certificate that it shows
        configuration.verify_mode = ssl.CERT_NONE
        return
    configuration.verify_mode = ssl.CERT_REQUIRED
    if tls.ca is not None:
        try:
            x509.load_pem_x509_certificates(tls.ca.read_bytes())
        except OSError as error:
            raise ResourceError(f"tls.ca: {tls.ca}: {error.strerror}; {_AUTHORITIES}") from None
        except ValueError:
            raise ResourceError(f"tls.ca: {tls.ca} holds no PEM certificate; {_AUTHORITIES}") from None
        configuration.cafile = str(tls.ca)
        return
    system = ssl.get_default_verify_paths()  # without any, aioquic takes certifi's
    configuration.cafile, configuration.capath = system.cafile, system.capath


def _name(host: str) -> str:
    """Return a host name in the form that certificates and TLS use."""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ResourceError(f"{host!r} is no host name; write it in ASCII, or set tls.sni") from None


def is_pinned(certificate: Any, pin: str) -> bool:
    """Return whether the SHA-256 of an x509 certificate's DER is ``pin`` (64 hex digits)."""
    return hmac.compare_digest(fingerprint(certificate), pin.lower())


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER as 64 hex digits."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
