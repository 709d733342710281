"""The keys `paths` and `multipath`: which network paths a client uses, and what each of them may carry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vantun.config_kinds import (
    ADDRESS,
    BOOLEAN,
    NAME,
    RATE,
    REMOTE,
    Endpoint,
    Kind,
    TextList,
    choice,
    whole_number,
)
from vantun.config_mtu import MAX_MTU, PATH_MTU_KEYS
from vantun.config_said import Said, needs
from vantun.config_units import parse_size
from vantun.config_yaml import Key
from vantun.errors import Problem

EXCLUDED = ("docker*", "veth*", "br-*", "virbr*")
"""Interfaces of containers and virtual machines: what leaves by them leaves by another one in the end."""
MOST_PATHS = 4


@dataclass(frozen=True)
class PathConfig:
    """One network path; ``server`` and the rates (bit/s, 0 = measured) are already filled in from the whole file."""

    name: str
    server: Endpoint
    source: str = ""
    """Local address; empty = the kernel's choice."""
    up: int = 0
    down: int = 0
    mtu: int = MAX_MTU
    """The largest UDP payload that is searched for."""
    interface: str = ""
    """The only interface that packets leave by; empty = as routes say."""
    backup: bool = False
    """Carries data only while no other path does."""
    cap: int = 0
    """Bytes of a calendar month, both directions; 0 = any number."""
    other_source: str = ""
    """Local address of the other family, for a server that has none of the family of ``source``."""
    origin: Literal["configured", "system"] = "configured"

    @property
    def sources(self) -> tuple[str, ...]:
        """The local addresses that it may use, in order of preference; empty = the kernel's choice."""
        return tuple(filter(None, (self.source, self.other_source)))


@dataclass(frozen=True)
class MultipathConfig:
    """Which of the system's interfaces become paths."""

    auto: bool = False
    exclude: tuple[str, ...] = EXCLUDED
    """Shell patterns of interface names."""
    most: int = MOST_PATHS
    mtu: int = MAX_MTU


def parse_interface(text: str) -> str:
    """Return the name of an interface, as the kernel allows it; ValueError if it is none."""
    if not re.fullmatch(r"[^\s/:]{1,15}", text) or text in (".", ".."):
        raise ValueError("the name of an interface, like 'eth0' (`ip link` lists them)")
    return text


def parse_cap(text: str) -> int:
    """Return bytes of a month; ValueError if it is no volume."""
    size = parse_size(text)
    if not 10**6 <= size <= 10**15:
        raise ValueError("a volume from '1 MB' to '1000 TB'")
    return size


def check_pattern(text: str) -> None:
    """Raise ValueError for what is no pattern of interface names."""
    if not re.fullmatch(r"[^\s/]{1,32}", text):
        raise ValueError("a pattern of interface names, like 'docker*'")


PATH_KEYS = (
    Key("name", NAME, "Name of the path in `vantun status`; each path has its own.", "dsl", required=True),
    Key("server", REMOTE, "Address of the server on this path. Without it the address in `server`.", "example.org:443"),
    Key(
        "source",
        ADDRESS,
        "Address of this machine that the path leaves from. Without it the kernel's choice.",
        "192.0.2.10",
    ),
    Key(
        "interface",
        Kind("the name of an interface", parse_interface),
        "The only interface that the path leaves by, whatever routes say of others; it needs a route to the server. "
        "While it is missing the path waits for it.",
        "wwan0",
    ),
    Key(
        "priority",
        choice("primary", "backup"),
        "`backup`: the path carries data only while no primary one is active.",
        "backup",
        "primary",
    ),
    Key(
        "cap",
        Kind("a volume like '50 GB'", parse_cap),
        "The volume of a calendar month, both directions together; once it is used up, the path is closed until the "
        "1st of the next month.",
        "50 GB",
    ),
    Key("up", RATE, "Rate of this path towards the server. Without it `bandwidth.up`.", "40 mbps"),
    Key("down", RATE, "Rate of this path from the server. Without it `bandwidth.down`.", "100 mbps"),
    *PATH_MTU_KEYS,
)
PATHS_KEYS = (
    Key(
        "paths",
        PATH_KEYS,
        "The paths to use at once. Without it one path, named `default`, or those of `multipath`.",
        "[{name: dsl}]",
    ),
    Key(
        "multipath.auto",
        BOOLEAN,
        "Whether every interface with a global address and a default route is a path, from when it comes until it "
        "goes. Interfaces of `paths` are as configured there.",
        "false",
        "false",
    ),
    Key(
        "multipath.exclude",
        TextList("patterns of interface names, like [docker*, veth*]", check_pattern),
        "Interfaces that are not used by `multipath.auto`.",
        "[docker*, veth*]",
        "[" + ", ".join(f"'{pattern}'" for pattern in EXCLUDED) + "]",
    ),
    Key("multipath.most", whole_number(1, 8), "How many interfaces `multipath.auto` uses.", "4", str(MOST_PATHS)),
)


def read_multipath(said: Said) -> MultipathConfig:
    """Return the section `multipath`."""
    return MultipathConfig(
        said.get("multipath.auto", False),
        said.get("multipath.exclude", EXCLUDED),
        said.get("multipath.most", MOST_PATHS),
        said.get("mtu", MAX_MTU),
    )


def read_paths(said: Said, server: Endpoint, up: int, down: int) -> tuple[tuple[PathConfig, ...], list[Problem]]:
    """Return the paths of the file and what is wrong with them; ``server`` and the rates are those of the file."""
    problems: list[Problem] = []
    items = said.items("paths")
    mtu = said.get("mtu", MAX_MTU)
    if said.has("paths") and not items and "paths" in said.values.value:
        problems.append(needs(said, "paths", "the list is empty; name a path, or remove the key for one default path"))
    default = PathConfig("default", server, up=up, down=down, mtu=mtu)
    paths = [_path(item, default) for item in items]
    if not paths and not said.get("multipath.auto", False):
        paths = [default]
    names = [path.name for path in paths]
    for number, item in enumerate(items):
        if names[number] and names[number] in names[:number]:
            line = item.values.line.get("name")
            problems.append(Problem(f"paths[{number}].name: two paths are called {names[number]!r}", line))
    if said.get("congestion.type", "bbr") == "brutal":
        slow = ", ".join(path.name for path in paths or [default] if not path.up)
        if slow:
            advice = "brutal needs the rate to send at: set bandwidth.up, or `up` of the path"
            problems.append(needs(said, "congestion.type", f"{advice} (missing for: {slow})"))
    return tuple(paths), problems


def _path(item: Said, default: PathConfig) -> PathConfig:
    return PathConfig(
        name=item.get("name", ""),
        server=item.get("server", default.server),
        source=item.get("source", ""),
        up=item.get("up", default.up),
        down=item.get("down", default.down),
        mtu=item.get("mtu", default.mtu),
        interface=item.get("interface", ""),
        backup=item.get("priority", "primary") == "backup",
        cap=item.get("cap", 0),
    )
