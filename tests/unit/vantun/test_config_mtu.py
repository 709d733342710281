"""The key `mtu`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vantun.config import load_client, load_server
from vantun.config_mtu import MAX_MTU, parse_mtu
from vantun.errors import ConfigError

CLIENT = "server: example.org:443\nauth: x\n"
SERVER = "tls: {cert: c.pem, key: k.pem}\nauth: {type: password, password: x}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vantun.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "value"), [("auto", MAX_MTU), ("1200", 1200), ("1392", 1392), ("1472", 1472)])
def test_sizes(text: str, value: int) -> None:
    assert parse_mtu(text) == value


@pytest.mark.parametrize("text", ["", "1199", "1473", "-1", "1.3e3", "1400 B", "on", "١٢٠٠"])
def test_what_is_no_size(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        parse_mtu(text)
    with pytest.raises(ConfigError, match=r"mtu: .*auto, or UDP payload bytes from 1200 to 1472"):
        load_server(written(tmp_path, SERVER + f"mtu: '{text}'\n"))


def test_a_path_has_its_own(tmp_path: Path) -> None:
    config = load_client(written(tmp_path, CLIENT + "mtu: 1392\npaths: [{name: a}, {name: b, mtu: 1200}]\n"))
    assert [path.mtu for path in config.paths] == [1392, 1200]
    assert [path.mtu for path in load_client(written(tmp_path, CLIENT + "mtu: 1252\n")).paths] == [1252]
    assert [path.mtu for path in load_client(written(tmp_path, CLIENT)).paths] == [MAX_MTU]
    assert load_server(written(tmp_path, SERVER)).mtu == MAX_MTU
    assert load_server(written(tmp_path, SERVER + "mtu: 1300\n")).mtu == 1300
