from __future__ import annotations

import ssl
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from vantun.cli.cert import fingerprint_of
from vantun.config import ClientTlsConfig, ServerTlsConfig
from vantun.control.certificates import create_self_signed, fingerprint, is_pinned, load_server, trust
from vantun.errors import ResourceError


def made(folder: Path, *names: str) -> ServerTlsConfig:
    files = ServerTlsConfig(folder / "cert.pem", folder / "key.pem")
    create_self_signed(files.cert, files.key, names or ("gw.example",), 30)
    return files


def test_names_addresses_and_modes(tmp_path: Path) -> None:
    files = made(tmp_path, "gw.example", "*.lab.example", "192.0.2.1", "2001:db8::1")
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gw.example", "*.lab.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cert.pem", "key.pem"], "no draft stays"


def test_the_pin_is_what_the_command_prints(tmp_path: Path) -> None:
    files = made(tmp_path)
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    pin = fingerprint_of(files.cert)
    assert fingerprint(certificate) == pin
    assert is_pinned(certificate, pin)
    assert is_pinned(certificate, pin.upper())
    assert not is_pinned(certificate, pin[:-1] + ("0" if pin[-1] != "0" else "1"))
    assert not is_pinned(certificate, "")


@pytest.mark.parametrize("present", ["cert.pem", "key.pem"])
def test_nothing_is_overwritten_and_no_half_is_left(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_bytes(b"mine")
    with pytest.raises(ResourceError, match="exists and stays"):
        made(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_bytes() == b"mine"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be written"):
        made(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "a b", "a..b", "bücher.example", "x" * 64, "-a.example", "a\n"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResourceError, match="neither a host name nor an address"):
        made(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_loading_says_what_is_wrong_with_which_file(tmp_path: Path) -> None:
    files = made(tmp_path)
    configuration = QuicConfiguration(is_client=False)
    load_server(configuration, files)
    assert configuration.private_key is not None
    (tmp_path / "other").mkdir()
    other = made(tmp_path / "other")
    text = tmp_path / "text"
    text.write_text("no PEM")
    for cert, key, said in (
        (tmp_path / "none", files.key, r"tls\.cert: .*none"),
        (files.cert, tmp_path / "none", r"tls\.key: .*none"),
        (text, files.key, "no PEM certificate and key"),
        (files.cert, text, "no PEM certificate and key"),
        (files.cert, other.key, "is not the key of"),
    ):
        with pytest.raises(ResourceError, match=said):
            load_server(QuicConfiguration(is_client=False), ServerTlsConfig(cert, key))


def test_what_a_client_trusts(tmp_path: Path) -> None:
    files = made(tmp_path)
    configuration = QuicConfiguration()
    trust(configuration, ClientTlsConfig(ca=files.cert), "gw.example")
    assert (configuration.verify_mode, configuration.cafile) == (ssl.CERT_REQUIRED, str(files.cert))
    assert configuration.server_name == "gw.example"
    trust(configuration, ClientTlsConfig(sni="bücher.example"), "gw.example")
    assert configuration.server_name == "xn--bcher-kva.example"
    assert configuration.verify_mode == ssl.CERT_REQUIRED, "without a word, certificates are verified"
    trust(configuration, ClientTlsConfig(insecure=True), "gw.example")
    assert configuration.verify_mode == ssl.CERT_NONE


def test_authorities_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no PEM")
    for path, said in ((tmp_path / "none", "No such file"), (text, "holds no PEM certificate")):
        with pytest.raises(ResourceError, match=said):
            trust(QuicConfiguration(), ClientTlsConfig(ca=path), "gw.example")
