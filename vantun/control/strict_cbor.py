"""The part of CBOR (RFC 8949) that control messages are made of, read without surprises.

The decoder of cbor2 is good and too able for a stranger's bytes: tags make it build dates, compile regular expressions
and link values into circles. Here there are integers, byte strings, text, lists and maps with text keys, each of a
definite length and each key once. Everything else is an error.
"""

from __future__ import annotations

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP = range(6)
_NAMES = ("unsigned", "negative", "bytes", "text", "list", "map", "tag", "float or simple value")
_DIRECT = 24
"""Arguments below this stand in the first byte; 24 to 27 announce one of 1, 2, 4 or 8 bytes."""
_MAX_DEPTH = 4


def read(data: bytes) -> object:
    """Return the one value that ``data`` is. Raises ValueError."""
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} B follow its end")
    return value


def _value(data: bytes, start: int, depth: int) -> tuple[object, int]:
    """Return the value that begins at ``start``, and where it ends."""
    kind, argument, place = _head(data, start)
    if kind == _UNSIGNED:
        return argument, place
    if kind == _NEGATIVE:
        return -1 - argument, place
    if kind > _MAP:
        raise ValueError(f"byte {start} begins a {_NAMES[kind]}")
    if argument > len(data) - place:  # an item has a byte at least, so this bounds lists and maps as well
        raise ValueError(f"{_NAMES[kind]} of length {argument} at byte {start} goes beyond the end")
    if kind in (_BYTES, _TEXT):
        piece = data[place : place + argument]
        return (piece if kind == _BYTES else piece.decode()), place + argument
    if depth >= _MAX_DEPTH:
        raise ValueError(f"lists and maps lie in one another more than {_MAX_DEPTH} deep")
    return (_list if kind == _LIST else _map)(data, argument, place, depth + 1)


def _head(data: bytes, start: int) -> tuple[int, int, int]:
    """Return (kind, argument, where what follows begins)."""
    if start >= len(data):
        raise ValueError("it ends too early")
    kind, short = data[start] >> 5, data[start] & 31
    place = start + 1
    if short < _DIRECT:
        return kind, short, place
    size = 1 << (short - _DIRECT)
    if size > 8:
        raise ValueError(f"byte {start} begins a {_NAMES[kind]} of indefinite length")
    if len(data) - place < size:
        raise ValueError("it ends too early")
    return kind, int.from_bytes(data[place : place + size], "big"), place + size


def _list(data: bytes, count: int, place: int, depth: int) -> tuple[list[object], int]:
    found: list[object] = []
    for _ in range(count):
        value, place = _value(data, place, depth)
        found.append(value)
    return found, place


def _map(data: bytes, count: int, place: int, depth: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    for _ in range(count):
        key, place = _value(data, place, depth)
        if not isinstance(key, str) or key in found:
            raise ValueError("a key of a map is no text, or stands there twice")
        found[key], place = _value(data, place, depth)
    return found, place
