"""What a configuration file says, for those who read sections of it: typed values, and problems with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

from vantun.config_yaml import Values
from vantun.errors import Problem

T = TypeVar("T")


class Said:
    """What the file says, typed by the default that stands in for what it does not say."""

    def __init__(self, values: Values, folder: Path) -> None:
        self.values = values
        self.folder = folder

    def has(self, name: str) -> bool:
        """Return whether the file has ``name``, or a key below it."""
        return self.values.under(name) is not None

    def get(self, name: str, default: T) -> T:
        """Return a value, or ``default`` where the file is silent."""
        return cast("T", self.values.value.get(name, default))

    def path(self, name: str) -> Path:
        """Return a file name of the configuration; a relative one is relative to the configuration's own folder."""
        return self.folder / Path(self.get(name, "")).expanduser()

    def items(self, name: str) -> list[Said]:
        """Return the items of a list of mappings."""
        items: list[Values] = self.get(name, [])
        return [Said(item, self.folder) for item in items]


def needs(said: Said, name: str, text: str) -> Problem:
    """Return a problem of the key ``name``, at its line."""
    return Problem(f"{name}: {text}", said.values.under(name))
