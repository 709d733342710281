"""Reads a YAML file against a table of keys; every complaint names file, line and the nearest known key.

The file is composed to nodes, never constructed to objects: nodes have line numbers, nothing in the file can make the
reader build anything, and an alias costs nothing because the table, not the file, bounds the depth of the walk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vantun.config_kinds import Kind, TextList, TextMap
from vantun.errors import ConfigError, Problem
from vantun.late_import import import_late

import_late("yaml")  # a worker knows tables of keys, and reads no file
import yaml  # noqa: E402

LARGEST_FILE = 2**20
"""Bytes; a larger file is surely not a configuration."""

_WHOLE = "the file: "
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Key:
    """One row of the table of keys.

    Attributes
    ----------
    name
        Dotted, as in ``tls.cert``; keys of a list's items are in a table of their own.
    kind
        What the value may be; a tuple of keys makes it a list of mappings.
    help
        One sentence for the documentation and the example file.
    example
        As it would stand in a file.
    default
        As it would stand in a file; empty = none.
    """

    name: str
    kind: Kind | TextMap | TextList | tuple[Key, ...]
    help: str
    example: str = ""
    default: str = ""
    required: bool = False
    short: bool = False
    """Whether its section may be this value alone: ``workers: 4``."""


@dataclass
class Values:
    """What a file says: values by dotted name, and where each stands."""

    value: dict[str, object] = field(default_factory=dict)
    line: dict[str, int] = field(default_factory=dict, repr=False)

    def under(self, prefix: str) -> int | None:
        """Return the line of ``prefix`` or of the first key below it; None when the file has neither."""
        lines = [line for name, line in self.line.items() if name == prefix or name.startswith(prefix + ".")]
        return min(lines, default=None)


def read_text(path: Path) -> str:
    """Return the text of a configuration file; ConfigError when there is none to be had."""

    def fail(text: str, line: int | None = None) -> ConfigError:
        return ConfigError(path, [Problem(text, line)])

    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise fail("no such file; `vantun config init server` or `client` writes one to start from") from None
    except IsADirectoryError:
        raise fail("this is a folder, not a file") from None
    except PermissionError:
        raise fail("the file may not be read by this user; change its owner or mode") from None
    except OSError as error:
        raise fail(f"the file cannot be read: {error.strerror or error}") from None
    if len(raw) > LARGEST_FILE:
        raise fail(f"the file is larger than {LARGEST_FILE} bytes; is it the right one?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise fail(f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file in that encoding", line) from None


def read_values(path: Path, keys: tuple[Key, ...]) -> tuple[Values, list[Problem]]:
    """Return what the file says and everything that is wrong with it.

    Raises
    ------
    ConfigError
        When the file cannot be read, or is not YAML.
    """
    text = read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(path, [Problem(f"this is not YAML: {what}", mark.line + 1 if mark else None)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        sign = f"U+{ord(text[error.position]):04X}"
        raise ConfigError(path, [Problem(f"the character {sign} is not allowed", line)]) from None
    except RecursionError:
        raise ConfigError(path, [Problem("the file is nested too deeply")]) from None
    if root is None:
        raise ConfigError(path, [Problem("the file is empty; `vantun config init` writes one to start from")])
    walk = _Walk(keys)
    walk.mapping(root, "")
    return walk.values, walk.problems


class _Walk:
    """One pass over a mapping node with one table."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = {key.name: key for key in keys}
        self.values = Values()
        self.problems: list[Problem] = []

    def complain(self, node: yaml.Node, text: str) -> None:
        self.problems.append(Problem(text, _line(node)))

    def mapping(self, node: yaml.Node, prefix: str) -> None:
        what = f"{prefix.removesuffix('.')}: " if prefix else _WHOLE
        if not isinstance(node, yaml.MappingNode):
            names = ", ".join(sorted(self._siblings(prefix)))
            self.complain(node, f"{what}expected keys ({names}), found {_describe(node)}")
            return
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else _describe(key_node)
            if name in seen:
                self.complain(key_node, f"{prefix}{name}: given twice, first in line {seen[name]}")
                continue
            seen[name] = _line(key_node)
            self._entry(f"{prefix}{name}", key_node, value_node)

    def _siblings(self, prefix: str) -> set[str]:
        return {name.removeprefix(prefix).split(".")[0] for name in self.keys if name.startswith(prefix)}

    def _entry(self, name: str, key_node: yaml.Node, node: yaml.Node) -> None:
        key = self.keys.get(name)
        is_section = any(known.startswith(name + ".") for known in self.keys)
        if key is None and not is_section:
            self.complain(key_node, f"{name}: unknown key{self._nearest(name)}")
            return
        self.values.line[name] = _line(key_node)
        if key is None:
            short = next((each for each in self.keys.values() if each.short and each.name.startswith(name + ".")), None)
            if short is not None and isinstance(node, yaml.ScalarNode) and node.tag != _NULL:
                self._entry(short.name, key_node, node)
            else:
                self.mapping(node, name + ".")
        elif isinstance(node, yaml.ScalarNode) and node.tag == _NULL:
            self.complain(key_node, f"{name}: has no value; remove the key, or give it one like: {key.example}")
        elif isinstance(key.kind, tuple):
            self._list(name, key.kind, node)
        elif isinstance(key.kind, TextMap):
            self._text_map(name, key.kind, node)
        elif isinstance(key.kind, TextList):
            self._text_list(name, key.kind, node)
        else:
            self._scalar(name, key.kind, node)

    def _nearest(self, name: str) -> str:
        prefix, _, last = name.rpartition(".")
        prefix = prefix and prefix + "."
        import difflib

        siblings = self._siblings(prefix)
        elsewhere = sorted(known for known in self.keys if known.split(".")[-1] == last)
        if elsewhere:
            return f"; did you mean {' or '.join(elsewhere[:3])}?"
        near = difflib.get_close_matches(last.lower(), sorted(word.lower() for word in siblings), n=1)
        if near:
            match = next(word for word in siblings if word.lower() == near[0])
            return f"; did you mean {prefix}{match}?"
        return f"; known here: {', '.join(sorted(siblings))}"

    def _scalar(self, name: str, kind: Kind, node: yaml.Node) -> None:
        if not isinstance(node, yaml.ScalarNode):
            self.complain(node, f"{name}: expected {kind.allowed}, found {_describe(node)}")
            return
        try:
            self.values.value[name] = kind.parse(node.value)
        except ValueError as error:
            found = "" if kind.secret else f", found {node.value[:60]!r}"
            self.complain(node, f"{name}: expected {error if str(error) else kind.allowed}{found}")

    def _text_map(self, name: str, kind: TextMap, node: yaml.Node) -> None:
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, f"{name}: expected {kind.allowed}, found {_describe(node)}")
            return
        entries: dict[str, str] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(value_node, yaml.ScalarNode):
                self.complain(key_node, f"{name}: expected {kind.allowed}")
            elif key_node.value in entries:
                self.complain(key_node, f"{name}.{key_node.value}: given twice")
            else:
                try:
                    kind.check(key_node.value, "" if value_node.tag == _NULL else value_node.value)
                except ValueError as error:
                    self.complain(key_node, f"{name}.{key_node.value}: {error}")
                entries[key_node.value] = value_node.value
        self.values.value[name] = entries

    def _text_list(self, name: str, kind: TextList, node: yaml.Node) -> None:
        if kind.alone and isinstance(node, yaml.ScalarNode) and node.value == kind.alone:
            self.values.value[name] = ()
            return
        if not isinstance(node, yaml.SequenceNode):
            self.complain(node, f"{name}: expected {kind.allowed}, found {_describe(node)}")
            return
        entries: list[str] = []
        for number, item in enumerate(node.value):
            if not isinstance(item, yaml.ScalarNode) or item.tag == _NULL:
                self.complain(item, f"{name}[{number}]: expected a text, found {_describe(item)}")
                continue
            try:
                kind.check(item.value)
            except ValueError as error:
                self.complain(item, f"{name}[{number}]: {error}")
            entries.append(item.value)
        self.values.value[name] = tuple(entries)

    def _list(self, name: str, keys: tuple[Key, ...], node: yaml.Node) -> None:
        if not isinstance(node, yaml.SequenceNode):
            self.complain(node, f"{name}: expected a list (lines that start with '- '), found {_describe(node)}")
            return
        items: list[Values] = []
        for number, item in enumerate(node.value):
            walk = _Walk(keys)
            walk.mapping(item, "")
            if isinstance(item, yaml.MappingNode):
                walk.problems += missing_keys(walk.values, keys, _line(item))
            for problem in walk.problems:
                whole = problem.text.startswith(_WHOLE)
                text = problem.text.removeprefix(_WHOLE)
                self.problems.append(Problem(f"{name}[{number}]{': ' if whole else '.'}{text}", problem.line))
            walk.values.line[""] = _line(item)
            items.append(walk.values)
        self.values.value[name] = items


def missing_keys(values: Values, keys: tuple[Key, ...], line: int | None = None) -> list[Problem]:
    """Return a problem for every required key that the file, or the list's item at ``line``, lacks."""
    return [
        Problem(f"{key.name} is missing: {key.help} Example: {key.name.split('.')[-1]}: {key.example}", line)
        for key in keys
        if key.required and key.name not in values.line
    ]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "nothing" if node.tag == _NULL else "a single value"
