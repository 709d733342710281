"""The section ``auth`` of a server: who may connect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from vantun.config_kinds import Kind, TextMap, choice
from vantun.config_said import Said, needs
from vantun.config_yaml import Key
from vantun.errors import Problem
from vantun.password_hash import parse_hash


@dataclass(frozen=True)
class AuthConfig:
    """Who may connect: with ``password``, ``password`` is set; with ``userpass``, ``users`` is not empty.

    A password is plain or a hash of :mod:`vantun.password_hash`.
    """

    type: Literal["password", "userpass"]
    password: str = field(default="", repr=False)
    users: dict[str, str] = field(default_factory=dict, repr=False)


def _check_user(user: str, password: str) -> None:
    if not user or ":" in user:
        raise ValueError("a user name is not empty and has no ':' (the client writes user:password)")
    _parse_password(password)


def _parse_password(text: str) -> str:
    if not text:
        raise ValueError("the password is empty")
    parse_hash(text)
    return text


AUTH_KEYS = (
    Key(
        "auth.type",
        choice("password", "userpass"),
        "One password for everybody, or a password for each user.",
        "userpass",
        required=True,
    ),
    Key(
        "auth.password",
        Kind("a text", _parse_password, secret=True),
        "The password, with `type: password`: plain, or a hash as `vantun user hash` prints it.",
        "correct-horse",
    ),
    Key(
        "auth.userpass",
        TextMap("a mapping from user names to passwords", _check_user),
        "The users and their passwords, with `type: userpass`: plain, or hashes as `vantun user hash` prints them.",
        "{alice: s3cret}",
    ),
)


def check_auth(said: Said) -> list[Problem]:
    """Return what the keys say that does not fit together."""
    kind = said.get("auth.type", "")
    if kind == "password" and not said.has("auth.password"):
        return [needs(said, "auth.type", "password needs auth.password")]
    if kind == "userpass" and not said.get("auth.userpass", {}):
        return [needs(said, "auth.type", "userpass needs auth.userpass with at least one user")]
    unused = {"password": "auth.userpass", "userpass": "auth.password"}.get(kind, "")
    if unused and said.has(unused):
        return [needs(said, unused, f"has no effect with auth.type: {kind}; remove it, or change the type")]
    return []


def auth_of(said: Said) -> AuthConfig:
    """Return the section."""
    return AuthConfig(
        type=cast("Literal['password', 'userpass']", said.get("auth.type", "password")),
        password=said.get("auth.password", ""),
        users=said.get("auth.userpass", {}),
    )
