from __future__ import annotations

from pathlib import Path

import pytest

from vantun.config import ServerConfig, load_server
from vantun.config_users import UserRates
from vantun.errors import ConfigError

SERVER = """
tls: {cert: c.pem, key: k.pem}
auth: {type: userpass, userpass: {alice: s3cret, bob: hunter2}}
"""


def server(folder: Path, text: str) -> ServerConfig:
    file = folder / "server.yaml"
    file.write_text(SERVER + text)
    return load_server(file)


def test_rates_and_sessions(tmp_path: Path) -> None:
    config = server(
        tmp_path,
        "users: [{name: alice, up: 200 mbps, down: 1 gbps}, {name: bob, down: 5 mbps}]\nlimits: {sessionsPerUser: 3}\n",
    )
    assert config.rates == {"alice": UserRates(200_000_000, 1_000_000_000), "bob": UserRates(0, 5_000_000)}
    assert config.sessions_per_user == 3
    silent = server(tmp_path, "")
    assert (silent.rates, silent.sessions_per_user) == ({}, 16)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("users: [{name: carol, up: 1 mbps}]", "'carol' is not in auth.userpass"),
        ("users: [{name: bob}, {name: bob}]", "stands in the list twice"),
        ("users: [{up: 1 mbps}]", "name"),
        ("users: [{name: bob, up: 1}]", "a rate"),
        ("limits: {sessionsPerUser: 0}", "a number from 1 to 1000"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        server(tmp_path, text + "\n")
    assert said in str(error.value)
