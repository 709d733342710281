"""The table of keys as text: the example files of `vantun config init`, and the tables of docs/configuration.md."""

from __future__ import annotations

import textwrap

from vantun.config_schema import KEYS, Role
from vantun.config_yaml import Key

_STARTER: dict[Role, dict[str, str]] = {
    "server": {
        "listen": ":443",
        "tls.cert": "cert.pem",
        "tls.key": "key.pem",
        "auth.type": "userpass",
        "auth.userpass": "{{alice: {password}}}",
    },
    "client": {
        "server": "example.org:443",
        "auth": "alice:{password}",
        "socks5.listen": "127.0.0.1:1080",
    },
}
"""Keys that an example file sets; every other key stands in it as a comment."""

_WIDTH = 100


def example_file(role: Role, password: str) -> str:
    """Return a valid, commented configuration file for ``role``.

    ``# Words`` explain, ``#key: value`` is a setting that is off; the value is the default where there is one.
    """
    starter = _STARTER[role]
    lines = [f"# VANTUN {role}. A setting behind '#' is off; its value is the default, or an example.", ""]
    done: set[str] = set()
    for key in KEYS[role]:
        section = key.name.split(".")[0]
        if section in done:
            continue
        done.add(section)
        members = [other for other in KEYS[role] if other.name.split(".")[0] == section]
        lines += _section(members, starter, password)
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _section(members: list[Key], starter: dict[str, str], password: str) -> list[str]:
    """Write the keys below one top-level name, opening the mappings between on the way."""
    lines: list[str] = []
    opened: list[str] = []
    for key in members:
        *parents, last = key.name.split(".")
        for depth, parent in enumerate(parents):
            if opened[: depth + 1] != parents[: depth + 1]:
                below = ".".join(parents[: depth + 1]) + "."
                off = "" if any(name.startswith(below) for name in starter) else "#"
                lines.append("  " * depth + f"{off}{parent}:")
                opened = parents[: depth + 1]
        indent = "  " * len(parents)
        lines += [f"{indent}# {line}" for line in textwrap.wrap(_plain(key.help), _WIDTH - len(indent))]
        if key.name in starter:
            lines.append(f"{indent}{last}: {starter[key.name].format(password=password)}")
        elif isinstance(key.kind, tuple):
            lines += [f"{indent}#{last}:", *_items(key.kind, indent)]
        else:
            lines.append(f"{indent}#{last}: {key.default or key.example}")
    return lines


def _items(keys: tuple[Key, ...], indent: str) -> list[str]:
    lines: list[str] = []
    for number, key in enumerate(keys):
        lines += [f"{indent}    # {line}" for line in textwrap.wrap(_plain(key.help), _WIDTH - len(indent) - 4)]
        lines.append(f"{indent}  {'#- ' if number == 0 else '  #'}{key.name}: {key.example}")
    return lines


def _plain(text: str) -> str:
    return text.replace("`", "'")


def documentation(role: Role) -> str:
    """Return the MyST table of every key of ``role``."""
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key in KEYS[role]:
        rows.append(_row(key, key.name))
        if isinstance(key.kind, tuple):
            rows += [_row(item, f"{key.name}[].{item.name}") for item in key.kind]
    return "\n".join(rows)


def _row(key: Key, name: str) -> str:
    allowed = "a list" if isinstance(key.kind, tuple) else key.kind.allowed
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    return f"| `{name}` | {allowed} | {default} | {key.help} |"
