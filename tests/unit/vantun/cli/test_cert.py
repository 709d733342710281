from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from vantun import cli


def test_self_signed_makes_what_fingerprint_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = ["--cert", str(cert), "--key", str(key), "--days", "30"]
    assert cli.main(["cert", "self-signed", "example.org", "192.0.2.1", *options]) == 0
    assert cli.main(["cert", "fingerprint", str(cert)]) == 0
    *_, shown_first, shown_again = capsys.readouterr().out.splitlines()
    der = x509.load_pem_x509_certificate(cert.read_bytes()).public_bytes(serialization.Encoding.DER)
    assert shown_again == hashlib.sha256(der).hexdigest()
    assert shown_first == f"pinSHA256: {shown_again}"
    assert key.stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)


def test_self_signed_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    key.write_text("mine")
    assert cli.main(["cert", "self-signed", "example.org", "--cert", str(cert), "--key", str(key)]) == 1
    assert "move away" in capsys.readouterr().err
    assert key.read_text() == "mine"
    assert not cert.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n",
    ],
)
def test_a_file_without_a_certificate(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pem"
    path.write_bytes(content)
    assert cli.main(["cert", "fingerprint", str(path)]) == 1
    assert "holds no PEM certificate" in capsys.readouterr().err


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cert", "fingerprint", str(tmp_path / "absent")]) == 1
    assert "absent: No such file or directory" in capsys.readouterr().err
