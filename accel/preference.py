"""Which engines somebody wants: the grammar of ``accel.fec`` and ``accel.aead``.

::

    list  = ["only:"] entry {"," entry}
    entry = name | name "@" batch [":"]     prefer this engine [from this many rows in a batch on]
          | "?" name ...                    the same, but nobody minds when it is not there
          | "!" name                        never this one

Entries are tried in order, then every other engine by its rank unless ``only:`` stands before the list. An empty list
leaves everything to the registry.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from drivers.errors import DriverError

_ENTRY = re.compile(r"(?P<mark>[?!]?)\s*(?P<name>[a-z0-9][a-z0-9-]*)(?:@(?P<batch>[0-9]{1,9}):?)?")
_ONLY = "only:"


@dataclass(frozen=True)
class Wish:
    """One engine that somebody wants."""

    name: str
    optional: bool = False
    """Whether its absence is ordinary (``?name``)."""
    from_batch: int = 0
    """Rows in a batch from which on it is wanted; 0 = for every batch."""


@dataclass(frozen=True)
class Preference:
    """A list of engines, read."""

    wishes: tuple[Wish, ...] = ()
    forbidden: frozenset[str] = frozenset()
    only: bool = False
    """Whether no other engine may serve."""

    def wish(self, name: str) -> Wish | None:
        """Return the wish for an engine, or None."""
        return next((wish for wish in self.wishes if wish.name == name), None)


def parse(text: str, known: Collection[str], key: str) -> Preference:
    """Read a list of engines.

    Parameters
    ----------
    text
        The list, e.g. ``"qat, ?openssl, !cuda"``.
    known
        Names of the engines that can stand in it.
    key
        What the list is called where it was written, e.g. ``"accel.aead"``.

    Raises
    ------
    DriverError
        When it cannot be read, or names an engine that is not known; says the nearest name.
    """
    rest = text.strip()
    only = rest.startswith(_ONLY)
    rest = rest.removeprefix(_ONLY).strip()
    if not rest:
        if only:
            raise DriverError(f"{key}: nothing stands behind {_ONLY!r}; name the engines that may serve")
        return Preference()
    wishes: list[Wish] = []
    forbidden: set[str] = set()
    for entry in rest.split(","):
        mark, wish = _read(entry.strip(), known, key)
        if wish.name in forbidden or any(wish.name == other.name for other in wishes):
            raise DriverError(f"{key}: {wish.name} is named twice; once is enough")
        if mark == "!":
            forbidden.add(wish.name)
        else:
            wishes.append(wish)
    if only and not wishes:
        raise DriverError(f"{key}: {_ONLY!r} leaves no engine; name at least one without '!'")
    return Preference(tuple(wishes), frozenset(forbidden), only)


def _read(entry: str, known: Collection[str], key: str) -> tuple[str, Wish]:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        how = "write 'name', '?name', '!name' or 'name@128:', separated by commas"
        raise DriverError(f"{key}: {entry!r} is no engine; {how}" if entry else f"{key}: a name is missing; {how}")
    mark, name, batch = found["mark"], found["name"], found["batch"]
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, sorted(known), n=1)
        step = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
        raise DriverError(f"{key}: there is no engine {name!r} for this; {step}")
    if mark == "!" and batch:
        raise DriverError(f"{key}: {entry!r} forbids from a batch size on; forbid it altogether with '!{name}'")
    return mark, Wish(name, mark == "?", int(batch or 0))
