"""Every YAML example of the manual is read by the real reader, on every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vantun.config import load_client, load_server
from vantun.errors import ConfigError

DOCS = Path(__file__).resolve().parents[3] / "docs"
BASE: dict[str, dict[str, object]] = {
    "client": {"server": "example.org", "auth": "alice:s3cret"},
    "server": {
        "tls": {"cert": "a.pem", "key": "b.pem"},
        "auth": {"type": "userpass", "userpass": {"alice": "s3cret", "bob": "hunter2"}},
    },
}
LOAD = {"client": load_client, "server": load_server}
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]


def read(folder: Path, role: str, example: object) -> object:
    """Return the configuration of ``role`` with an example in it; its keys replace those of the least there must be."""
    assert isinstance(example, dict)
    file = folder / f"{role}.yaml"
    file.write_text(yaml.safe_dump({**BASE[role], **example}), encoding="utf-8")
    return LOAD[role](file)


def test_every_page_was_looked_at() -> None:
    """A block that is written in another way would be skipped without a word."""
    fences = sum(page.read_text(encoding="utf-8").count("```yaml") for page in DOCS.glob("*.md"))
    assert len(EXAMPLES) == fences > 20


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_valid(tmp_path: Path, text: str) -> None:
    example = yaml.safe_load(text)
    named = re.match(r"# (client|server)\.yaml", text)
    problems = []
    for role in (named[1],) if named else ("client", "server"):
        try:
            assert read(tmp_path, role, example) != read(tmp_path, role, {}), "the example changes nothing"
        except ConfigError as error:
            problems.append(str(error))
        else:
            return
    pytest.fail("\n".join(problems))
