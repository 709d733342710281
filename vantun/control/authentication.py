"""Who may have a tunnel: credentials in constant time (RFC 7617 form, in the request that opens it)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from vantun.config import AuthConfig

SCHEME = b"Basic "


def authorization(auth: str) -> bytes:
    """Return the value of the client's ``authorization`` field for ``password`` or ``user:password``."""
    return SCHEME + base64.b64encode(auth.encode())


class Authenticator:
    """Checks credentials; wrong user and wrong password take the same time and cannot be told apart."""

    def __init__(self, config: AuthConfig) -> None:
        # a key of this process: what is compared, and how long that takes, says nothing about a password
        self._key = secrets.token_bytes(32)
        known = {"": config.password} if config.type == "password" else config.users
        self._by_user = config.type == "userpass"
        self._digests = {user: self._digest(password) for user, password in known.items()}
        self._nobody = secrets.token_bytes(32)

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(), hashlib.sha256)

    def user(self, value: bytes) -> str | None:
        """Return the user of an ``authorization`` value ("" with one password for all), or None."""
        try:
            text = base64.b64decode(value.removeprefix(SCHEME), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        user, password = text.partition(":")[::2] if self._by_user else ("", text)
        right = hmac.compare_digest(self._digest(password), self._digests.get(user, self._nobody))
        return user if right and value.startswith(SCHEME) else None
