from __future__ import annotations

from pathlib import Path

import pytest

from vantun.config import MasqueradeConfig, load_server
from vantun.config_kinds import Endpoint
from vantun.errors import ConfigError

REST = "tls: {cert: a.pem, key: b.pem}\nauth: {type: password, password: s3cret}\n"


def load(folder: Path, text: str) -> MasqueradeConfig:
    path = folder / "vantun.yaml"
    path.write_text(REST + text)
    return load_server(path).masquerade


def test_without_it_a_page(tmp_path: Path) -> None:
    assert load(tmp_path, "") == MasqueradeConfig()
    assert load(tmp_path, "masquerade: {listenHTTPS: ':443'}").listen_https == Endpoint("", 443)


def test_a_folder(tmp_path: Path) -> None:
    found = load(tmp_path, "masquerade: {type: file, file: {dir: www}}")
    assert (found.type, found.folder) == ("file", tmp_path / "www")


def test_another_site(tmp_path: Path) -> None:
    text = "masquerade: {type: proxy, proxy: {url: 'https://example.org:8443/app/', rewriteHost: true, insecure: true}}"
    found = load(tmp_path, text)
    assert (found.type, found.url) == ("proxy", "https://example.org:8443/app")
    assert (found.rewrite_host, found.insecure) == (True, True)


def test_on_tcp(tmp_path: Path) -> None:
    found = load(tmp_path, "masquerade: {listenHTTPS: ':443', listenHTTP: '127.0.0.1:80', forceHTTPS: true}")
    assert (found.listen_http, found.force_https) == (Endpoint("127.0.0.1", 80), True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{type: file}", "masquerade.file.dir is missing"),
        ("{type: proxy}", "masquerade.proxy.url is missing"),
        ("{type: file, file: {dir: a}, string: {content: x}}", "masquerade.string: has no effect"),
        ("{file: {dir: a}}", "needs masquerade.type"),
        ("{listenHTTP: ':80', forceHTTPS: true}", "needs masquerade.listenHTTPS"),
        ("{listenHTTPS: ':443', forceHTTPS: true}", "no effect without masquerade.listenHTTP"),
        *(
            ("{type: proxy, proxy: {url: '" + url + "'}}", "masquerade.proxy.url: expected the address of a web site")
            for url in (
                "example.org",
                "ftp://example.org",
                "https://",
                "https://a b/",
                "https://u@a.org",
                "http://a/?q",
            )
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "masquerade: " + text)
    assert message in str(caught.value)
