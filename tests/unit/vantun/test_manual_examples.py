"""Every YAML example of the pages about masquerade and users is a configuration that is read without a problem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vantun.config import load_server

DOCS = Path(__file__).resolve().parents[3] / "docs"
BASE = {
    "tls": {"cert": "cert.pem", "key": "key.pem"},
    "auth": {"type": "userpass", "userpass": {"alice": "s3cret"}},
}
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    (page, number, text)
    for page in ("masquerade.md", "users.md")
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize(("page", "number", "text"), EXAMPLES, ids=lambda part: str(part)[:14])
def test_example(page: str, number: int, text: str, tmp_path: Path) -> None:
    del page, number
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump({**BASE, **yaml.safe_load(text)}))
    load_server(file)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
