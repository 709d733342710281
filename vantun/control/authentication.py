"""Who may have a tunnel: credentials in constant time (RFC 7617 form, in the request that opens it).

The same work is done whether a user exists or not: a keyed digest is compared, and where passwords are stored as hashes
one hash of the usual cost is computed, a dummy for a user who does not exist or whose password is plain.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from vantun.config import AuthConfig
from vantun.password_hash import ScryptHash, dummy_hash, parse_hash

SCHEME = b"Basic "
MAX_VALUE = 2048
"""Bytes of an ``authorization`` value that are looked at."""


def authorization(auth: str) -> bytes:
    """Return the value of the client's ``authorization`` field for ``password`` or ``user:password``."""
    return SCHEME + base64.b64encode(auth.encode())


@dataclass(frozen=True)
class Credentials:
    """What a request says; ``user`` is "" where one password is for all."""

    user: str
    password: bytes = field(repr=False)
    well_formed: bool


class Authenticator:
    """Checks credentials; wrong user and wrong password take the same time and cannot be told apart.

    Attributes
    ----------
    by_user
        Whether there are users, not one password for all.
    costs
        How many passwords are stored as hashes of which cost; more than one cost can be told apart by time.
    """

    def __init__(self, config: AuthConfig) -> None:
        # a key of this process: what is compared, and how long that takes, says nothing about a password
        self._key = secrets.token_bytes(32)
        known = {"": config.password} if config.type == "password" else config.users
        self.by_user = config.type == "userpass"
        self._stored = {user: self._digest(text.encode()) for user, text in known.items()}
        hashes = {user: parse_hash(text) for user, text in known.items()}
        self._hashes = {user: found for user, found in hashes.items() if found is not None}
        self._plain = {user: digest for user, digest in self._stored.items() if user not in self._hashes}
        self.costs = Counter(found.cost for found in self._hashes.values())
        self._nobody = secrets.token_bytes(32)
        self._dummy = dummy_hash(self.costs.most_common(1)[0][0]) if self.costs else None
        self._right: dict[str, bytes] = {}

    @property
    def tells_by_time(self) -> bool:
        """Whether hashes are of different cost; a plain password beside hashes costs a dummy of the most usual one."""
        return len(self.costs) > 1

    def __contains__(self, user: str) -> bool:
        return user in self._stored

    def _digest(self, password: bytes) -> bytes:
        return hmac.digest(self._key, password, hashlib.sha256)

    def read(self, value: bytes) -> Credentials:
        """Return what an ``authorization`` value says; anything that is none counts as an empty password."""
        text, fits = "", value.startswith(SCHEME) and len(value) <= MAX_VALUE
        if fits:
            try:
                text = base64.b64decode(value[len(SCHEME) :], validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                fits = False
        user, password = text.partition(":")[::2] if self.by_user else ("", text)
        return Credentials(user, password.encode(), fits)

    def is_known(self, credentials: Credentials) -> bool:
        """Tell whether exactly these were found right before: no hash has to be computed for them again."""
        digest = self._digest(credentials.password)
        return hmac.compare_digest(digest, self._right.get(credentials.user, self._nobody)) and credentials.well_formed

    def check(self, credentials: Credentials) -> bool | Callable[[], bool]:
        """Return whether credentials are right or, if that takes a hash, the work that tells it, for a thread."""
        digest = self._digest(credentials.password)
        right = hmac.compare_digest(digest, self._plain.get(credentials.user, self._nobody)) and credentials.well_formed
        if self._dummy is None:
            return right
        stored: ScryptHash | None = self._hashes.get(credentials.user)
        hashed = stored or self._dummy
        password = credentials.password
        return lambda: (hashed.verify(password) and stored is not None and credentials.well_formed) or right

    def accept(self, credentials: Credentials) -> None:
        """Remember that credentials were found right, as a keyed digest; one entry per user."""
        if credentials.user in self._stored:
            self._right[credentials.user] = self._digest(credentials.password)

    def user(self, value: bytes) -> str | None:
        """Return the user of an ``authorization`` value ("" with one password for all), or None; may take its time."""
        credentials = self.read(value)
        found = self.check(credentials)
        return credentials.user if (found if isinstance(found, bool) else found()) else None


def removed_users(config: AuthConfig, before: AuthConfig) -> dict[str, str]:
    """Return the users of ``before``, and why, who may not stay with ``config``; may compute hashes."""
    if config.type != before.type:
        return dict.fromkeys(_entries(before), "the way of authentication was changed")
    now = _entries(config)
    return {
        user: "the password was changed" if user in now else "the user was removed"
        for user, old in _entries(before).items()
        if user not in now or not _same(old, now[user])
    }


def _entries(config: AuthConfig) -> dict[str, str]:
    return {"": config.password} if config.type == "password" else config.users


def _same(old: str, new: str) -> bool:
    """Tell whether an entry means the same password: it is the same, or only a hash of it has taken its place."""
    if hmac.compare_digest(old.encode(), new.encode()):
        return True
    before, after = parse_hash(old), parse_hash(new)
    if before is None and after is not None:
        return after.verify(old.encode())
    return before is not None and after is None and before.verify(new.encode())
