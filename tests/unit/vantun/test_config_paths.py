"""The keys `paths` and `multipath`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vantun.config import ClientConfig, MultipathConfig, load_client
from vantun.errors import ConfigError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "paths.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
CLIENT = "server: 'vantun://alice:s3cret@gw.example:443/?insecure=1'\n"


def load(folder: Path, text: str) -> ClientConfig:
    file = folder / "client.yaml"
    file.write_text(CLIENT + text)
    return load_client(file)


def test_what_a_path_may_say(tmp_path: Path) -> None:
    text = """
paths:
  - {name: dsl, interface: eth0}
  - {name: lte, interface: wwan0, priority: backup, cap: 50 GB}
"""
    dsl, lte = load(tmp_path, text).paths
    assert (dsl.interface, dsl.backup, dsl.cap, dsl.origin) == ("eth0", False, 0, "configured")
    assert (lte.interface, lte.backup, lte.cap) == ("wwan0", True, 50 * 10**9)
    assert dsl.sources == ()


def test_system_paths_instead_of_the_default_one(tmp_path: Path) -> None:
    config = load(tmp_path, "multipath: {auto: true, exclude: [docker*, 'veth?'], most: 2}\nmtu: 1392\n")
    assert config.paths == ()
    assert config.multipath == MultipathConfig(auto=True, exclude=("docker*", "veth?"), most=2, mtu=1392)
    assert [path.name for path in load(tmp_path, "multipath: {auto: false}\n").paths] == ["default"]
    both = load(tmp_path, "multipath: {auto: true}\npaths: [{name: dsl}]\n")
    assert [path.name for path in both.paths] == ["dsl"]
    assert "veth*" in both.multipath.exclude


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paths: [{name: a, interface: 'e th'}]\n", "paths[0].interface: expected the name of an interface"),
        ("paths: [{name: a, interface: a-name-too-long-for-it}]\n", "`ip link` lists them"),
        ("paths: [{name: a, priority: second}]\n", "paths[0].priority: expected primary or backup"),
        ("paths: [{name: a, cap: 5}]\n", "paths[0].cap: expected"),
        ("paths: [{name: a, cap: 1 kB}]\n", "a volume from '1 MB' to '1000 TB'"),
        ("paths: [{name: a}, {name: a}]\n", "paths[1].name: two paths are called 'a'"),
        ("paths: []\n", "the list is empty"),
        ("multipath: {auto: yes}\n", "multipath.auto: expected true or false"),
        ("multipath: {exclude: [a b]}\n", "multipath.exclude[0]"),
        ("multipath: {most: 9}\n", "multipath.most: expected a whole number from 1 to 8"),
        ("multipath: {auto: true}\ncongestion: {type: brutal}\n", "brutal needs the rate to send at"),
    ],
)
def test_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_the_manual(text: str, tmp_path: Path) -> None:
    load(tmp_path, text)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
