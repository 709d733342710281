"""Every YAML example of the manual's pages on modes and rules is read by the real reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vantun.config import load_client, load_server

DOCS = Path(__file__).resolve().parents[3] / "docs"
BASE = {
    "client": "server: example.org\nauth: alice:s3cret\n",
    "server": "tls: {cert: a.pem, key: b.pem}\nauth: {type: userpass, userpass: {alice: s3cret}}\n",
}
EXAMPLES = [
    (page, role, text)
    for page in ("modes.md", "acl.md")
    for role, text in re.findall(r"```yaml\n# (client|server)\.yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize(("page", "role", "text"), EXAMPLES)
def test_an_example_is_valid(tmp_path: Path, page: str, role: str, text: str) -> None:
    file = tmp_path / f"{role}.yaml"
    file.write_text(BASE[role] + text)
    config = load_client(file) if role == "client" else load_server(file)
    assert config != (load_client if role == "client" else load_server)(_bare(tmp_path, role)), page


def _bare(folder: Path, role: str) -> Path:
    file = folder / "bare.yaml"
    file.write_text(BASE[role])
    return file
