"""Dataclasses to and from the plain values of CBOR, checked against their annotations on the way in."""

from __future__ import annotations

import dataclasses
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: object) -> object:
    """Return ``value`` as numbers, text, bytes, lists and maps."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def from_plain(kind: type[T], plain: object) -> T:
    """Return the ``kind`` that :func:`to_plain` made ``plain`` of.

    Understands dataclasses, enums, int, float, bool, str, bytes, object, tuple[X, ...], tuple[X, Y], dict[str, X].

    Raises
    ------
    ValueError
        When ``plain`` is anything else; says which field is wrong.
    """
    made: T = _build(kind, plain, getattr(kind, "__name__", str(kind)))
    return made


def _build(kind: Any, plain: object, where: str) -> Any:
    if kind is object:
        return plain
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _tuple(inner, plain, where)
    if origin is dict:
        if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
            raise ValueError(f"{where}: expected a map with names, found {_short(plain)}")
        return {key: _build(inner[1], item, f"{where}.{key}") for key, item in plain.items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, plain, where)
    if issubclass(kind, Enum):
        try:
            return kind(plain)
        except ValueError:
            raise ValueError(f"{where}: {_short(plain)} is no {kind.__name__}") from None
    if kind is float and type(plain) is int:
        return float(plain)
    if type(plain) is not kind:
        raise ValueError(f"{where}: expected {kind.__name__}, found {_short(plain)}")
    return plain


def _tuple(inner: tuple[Any, ...], plain: object, where: str) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise ValueError(f"{where}: expected a list, found {_short(plain)}")
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_build(inner[0], item, where) for item in plain)
    if len(plain) != len(inner):
        raise ValueError(f"{where}: expected {len(inner)} items, found {len(plain)}")
    return tuple(_build(kind, item, where) for kind, item in zip(inner, plain, strict=True))


def _dataclass(kind: Any, plain: object, where: str) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"{where}: expected a map, found {_short(plain)}")
    hints = _hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    if plain.keys() != names:
        raise ValueError(f"{where}: expected the fields {sorted(names)}, found {_short(list(plain))}")
    return kind(**{name: _build(hints[name], plain[name], f"{where}.{name}") for name in names})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
