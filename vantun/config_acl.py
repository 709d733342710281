"""The section ``acl`` of both files: rules in the file, or one per line in a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from vantun.acl import AccessList, Guard, parse_rule
from vantun.config_kinds import FILE, TextList
from vantun.config_yaml import Key, Values, read_text
from vantun.errors import ConfigError, Problem

ACL_KEYS = (
    Key(
        "acl.inline",
        TextList("a list of rules", parse_rule),
        "Rules for targets, the first that matches decides: `allow`, `reject` or `direct`, of an address, a network, a "
        "name, `suffix:NAME` or `all`, and `tcp`, `udp` or `*` with ports.",
        "['reject(all, tcp/25)', 'reject(suffix:example.org)']",
    ),
    Key("acl.file", FILE, "The same rules, one per line, `#` begins a comment; instead of `acl.inline`.", "acl.txt"),
)


def read_acl(values: Values, folder: Path, guard: Guard) -> tuple[AccessList, list[Problem]]:
    """Return the access list that a configuration file describes, and what is wrong with it."""
    inline = cast("tuple[str, ...]", values.value.get("acl.inline", ()))
    name = values.value.get("acl.file")
    line = values.under("acl")
    if name is None:
        try:
            return AccessList.parse(inline, guard), []
        except ValueError:  # each wrong rule was complained about with its line
            return AccessList(guard=guard), []
    if "acl.inline" in values.line:
        return AccessList(guard=guard), [Problem("acl: inline and file exclude each other; keep one", line)]
    path = folder / Path(str(name)).expanduser()
    try:
        lines = read_text(path).splitlines()
    except ConfigError as error:
        return AccessList(guard=guard), [Problem(f"acl.file: {error.problems[0].text} ({path})", line)]
    problems = []
    for number, text in enumerate(lines, 1):
        try:
            AccessList.parse([text], guard)
        except ValueError as error:
            problems.append(Problem(f"acl.file: {path}:{number}: {error}", line))
    if problems:
        return AccessList(guard=guard), problems
    try:
        return AccessList.parse(lines, guard), []
    except ValueError as error:
        return AccessList(guard=guard), [Problem(f"acl.file: {path}: {error}", line)]
