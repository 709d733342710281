"""Write the tables of keys into configuration.md; a test fails when they are not those of the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from vantun.config_schema import Role
from vantun.config_text import documentation

PAGE = Path(__file__).parent / "configuration.md"


def generate() -> None:
    """Replace what stands between the markers of each role."""
    text = PAGE.read_text(encoding="utf-8")
    for role in get_args(Role):
        begin, end = f"<!-- keys: {role} -->", f"<!-- end: {role} -->"
        table = f"{begin}\n\n{documentation(role)}\n\n{end}"
        text, count = re.subn(f"{begin}.*?{end}", lambda _match, new=table: new, text, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"{PAGE}: the markers {begin} and {end} must stand there once")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    generate()
