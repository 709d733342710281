"""Reading the configuration again while the appliance runs (SIGHUP): all of it that can be changed, or nothing.

A file that has a mistake, or names a certificate that has one, changes nothing and is told in the log and in `vantun
status`. Keys that take effect at the next start only are named.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from vantun.config import ClientConfig, ServerConfig
from vantun.config_schema import KEYS, Role
from vantun.config_yaml import read_values
from vantun.errors import ConfigError, VantunError

log = logging.getLogger(__name__)

Config = ServerConfig | ClientConfig
C = TypeVar("C", ServerConfig, ClientConfig)

LIVE: dict[Role, tuple[str, ...]] = {
    "server": ("auth", "users", "tls", "masquerade", "acl", "reverse", "speedTest", "log"),
    "client": ("acl", "log"),
}
"""Keys, or sections, that take effect without a restart."""
_AT_START = ("masquerade.listenHTTPS", "masquerade.listenHTTP")
_LIVE_FIELDS: dict[Role, tuple[str, ...]] = {
    "server": ("auth", "rates", "tls", "masquerade", "acl", "reverse_allow", "speed_test", "log_level", "log_format"),
    "client": ("acl", "log_level", "log_format"),
}


@dataclass(frozen=True)
class ConfigSource:
    """Where a configuration came from, and how it is read again (raises VantunError)."""

    path: Path
    load: Callable[[], Config]


def merged(before: C, now: C, role: Role) -> C:
    """Return ``before`` with everything of ``now`` that takes effect without a restart."""
    present = {field.name for field in fields(before)}
    return replace(before, **{name: getattr(now, name) for name in _LIVE_FIELDS[role] if name in present})


class Reloader:
    """Reads a configuration again, one time after the other.

    Parameters
    ----------
    apply
        Puts a configuration into effect; raises VantunError, and has changed nothing then.
    """

    def __init__(self, source: ConfigSource, role: Role, apply: Callable[[Config], Awaitable[None]]) -> None:
        self._source = source
        self._role = role
        self._apply = apply
        self._key = secrets.token_bytes(16)
        self._said = self._digests()
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._count = 0
        self._problem = ""
        self._pending: list[str] = []

    def request(self) -> None:
        """Reload; once more if one is under way."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._reload())

    def report(self) -> dict[str, object]:
        """Return the section ``reload`` of the status: how often, what was wrong at last, what needs a restart."""
        return {"count": self._count, "problem": self._problem, "needs_restart": self._pending}

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _reload(self) -> None:
        while True:
            self._again = False
            try:
                await self._once()
            except VantunError as error:
                self._problem = str(error)
                log.error("%s is not taken over, what was in force stays in force:", self._source.path)
                for line in self._problem.splitlines():
                    log.error("%s", line)
            except Exception as error:
                self._problem = f"a mistake in VANTUN, please report it: {type(error).__name__}: {error}"
                log.exception("reloading has failed, what was in force may be in force still")
            self._count += 1
            if not self._again:
                return

    async def _once(self) -> None:
        config = await asyncio.to_thread(self._source.load)
        said = await asyncio.to_thread(self._digests)
        await self._apply(config)
        self._problem = ""
        changed = sorted(name for name in {*said, *self._said} if said.get(name) != self._said.get(name))
        live = [name for name in changed if self._is_live(name)]
        # what waits for a restart stays as it was in `_said`, so that it is named until it has had one
        self._pending = [name for name in changed if not self._is_live(name)]
        for name in live:
            if name in said:
                self._said[name] = said[name]
            else:
                self._said.pop(name, None)
        log.info("%s was read again: %s changed", self._source.path, ", ".join(live) or "nothing")
        if self._pending:
            log.warning("%s: needs a restart", ", ".join(self._pending))

    def _is_live(self, name: str) -> bool:
        return name not in _AT_START and name.split(".")[0] in LIVE[self._role]

    def _digests(self) -> dict[str, bytes]:
        """Return a keyed digest of each value in the file: what changed is seen, and no password is kept."""
        try:
            values, _ = read_values(self._source.path, KEYS[self._role])
        except ConfigError:  # it was there when the appliance started, and will be looked at again
            return {}
        return {
            name: hmac.digest(self._key, repr(value).encode(), hashlib.sha256) for name, value in values.value.items()
        }
