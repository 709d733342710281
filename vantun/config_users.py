"""The server's sections about its users: rates of each, and how many sessions one may have."""

from __future__ import annotations

from dataclasses import dataclass

from vantun.config_kinds import NAME, RATE, Kind
from vantun.config_said import Said
from vantun.config_yaml import Key, Values
from vantun.errors import Problem

SESSIONS_PER_USER = 16
_MOST_SESSIONS = 1000


@dataclass(frozen=True)
class UserRates:
    """What a user may move, all sessions together, bit/s as the user sees it; 0 = no limit."""

    up: int = 0
    down: int = 0


def _parse_sessions(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_SESSIONS:
        raise ValueError(f"a number from 1 to {_MOST_SESSIONS}")
    return int(text)


USER_KEYS = (
    Key("name", NAME, "The user, as in `auth.userpass`.", "alice", required=True),
    Key("up", RATE, "The most that the user may send. Without it there is no limit.", "200 mbps"),
    Key("down", RATE, "The most that is sent to the user. Without it there is no limit.", "1 gbps"),
)
USERS_KEYS = (
    Key(
        "users",
        USER_KEYS,
        "Rates of single users, for all their clients together; `bandwidth` is for each path.",
        "[{name: alice, up: 200 mbps, down: 1 gbps}]",
    ),
    Key(
        "limits.sessionsPerUser",
        Kind("a number", _parse_sessions),
        "Clients that one user may have connected, with `auth.type: userpass`.",
        str(SESSIONS_PER_USER),
        str(SESSIONS_PER_USER),
    ),
)


def read_rates(said: Said) -> tuple[dict[str, UserRates], list[Problem]]:
    """Return the rates by user, and what is wrong with them."""
    rates: dict[str, UserRates] = {}
    problems: list[Problem] = []
    known: dict[str, str] = said.get("auth.userpass", {})
    for number, item in enumerate(said.items("users")):
        name: str = item.get("name", "")
        if name and name not in known:
            problems.append(_problem(number, item.values, f"{name!r} is not in auth.userpass"))
        if name in rates:
            problems.append(_problem(number, item.values, f"{name!r} stands in the list twice"))
        rates[name] = UserRates(item.get("up", 0), item.get("down", 0))
    return rates, problems


def _problem(number: int, values: Values, text: str) -> Problem:
    return Problem(f"users[{number}].name: {text}", values.line.get("name", values.line.get("")))
