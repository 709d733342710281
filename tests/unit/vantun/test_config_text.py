from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from vantun.config import load_client, load_server
from vantun.config_kinds import Kind
from vantun.config_paths import PATH_KEYS
from vantun.config_schema import KEYS, Role, role_of
from vantun.config_text import documentation, example_file
from vantun.config_yaml import Key

ROLES: tuple[Role, ...] = get_args(Role)
ALL_KEYS = [*KEYS["server"], *KEYS["client"], *PATH_KEYS]


@pytest.mark.parametrize("role", ROLES)
def test_the_example_is_valid(tmp_path: Path, role: Role) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(example_file(role, "s3cret"))
    assert role_of(path) == role
    if role == "server":
        assert load_server(path).auth.users == {"alice": "s3cret"}
    else:
        assert load_client(path).auth == "alice:s3cret"


@pytest.mark.parametrize("role", ROLES)
def test_the_example_shows_every_key(role: Role) -> None:
    lines = {line.strip().lstrip("#- ").split(":")[0] for line in example_file(role, "x").splitlines()}
    assert {key.name.split(".")[-1] for key in KEYS[role]} <= lines
    assert role == "server" or {key.name for key in PATH_KEYS} <= lines


def test_a_client_example_with_every_setting_on_is_valid(tmp_path: Path) -> None:
    """Each ``#key:`` can be switched on by removing the '#'; those that exclude each other are left off."""
    lines = []
    for line in example_file("client", "s3cret").splitlines():
        bare = line.lstrip()
        setting = bare.startswith("#") and not bare.startswith("# ")
        off = not setting or "insecure" in bare or bare.startswith("#file: acl")
        lines.append(line if off else line.replace("#", "", 1))
    path = tmp_path / "client.yaml"
    path.write_text("\n".join(lines))
    config = load_client(path)
    assert config.paths[0].name == "dsl"
    assert config.socks5 is not None
    assert config.socks5.username == "local"
    assert config.tls.pin_sha256 == "ab" * 32


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: key.name)
def test_examples_and_defaults_are_allowed(key: Key) -> None:
    assert key.example
    assert key.help.endswith(".")
    assert "|" not in key.help, "it would break the table"
    if isinstance(key.kind, Kind):
        for text in filter(None, (key.example.strip("'"), key.default)):
            key.kind.parse(text)


@pytest.mark.parametrize("role", ROLES)
def test_the_manual_has_the_table(role: Role) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"
    assert documentation(role) in page.read_text(encoding="utf-8"), "run: ./dev run python docs/generate.py"
