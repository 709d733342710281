"""How much of its monthly volume each path has used: counted here, kept in a file, and begun anew on the 1st."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "volumes.json"
SAVE_EVERY = 30.0
"""Seconds; what was counted since is lost when the process is killed."""
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and UDP headers before the payload of a packet, which a contract counts, too."""
_LARGEST_FILE = 1 << 20


def volume_folder() -> Path:
    """Return where state is kept that outlives a restart of the machine (systemd's StateDirectory, or XDG's)."""
    service = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if service:
        return Path(service)
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local/state") / "vantun"


class Volumes:
    """The volumes of paths that have a cap.

    A file that cannot be read counts as none, and one that cannot be written is said once: then counts last as long as
    the process.

    Parameters
    ----------
    caps
        Path name -> bytes of a month.
    folder
        Where the file is; made if it is missing.
    clock
        Returns the local time.
    """

    def __init__(self, caps: Mapping[str, int], folder: Path, clock: Callable[[], datetime] = datetime.now) -> None:
        self._caps = {name: cap for name, cap in caps.items() if cap}
        self._file = folder / FILE
        self._clock = clock
        self._month = self._this_month()
        self._used: dict[str, int] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._unsaved = False
        self._complained = False
        self._saved_at: datetime | None = None
        if self._caps:
            self._load()

    def count(self, lanes: Iterable[Mapping[str, object]], names: Mapping[tuple[str, int], str]) -> list[str]:
        """Add what lanes have carried since the last call; return the paths that have used up their volume.

        Parameters
        ----------
        lanes
            Of a snapshot of the data worker: ``session``, ``path``, ``peer``, and bytes and packets both ways.
        names
            (session, path id) -> name of the path.
        """
        if not self._caps:
            return []
        self._begin_month()
        seen: dict[tuple[str, int], int] = {}
        for lane in lanes:
            where = (str(lane["session"]), int(str(lane["path"])))
            name = names.get(where)
            if name not in self._caps:
                continue
            seen[where] = _carried(lane)
            more = seen[where] - self._seen.get(where, 0)
            if more > 0:
                self._used[name] = self._used.get(name, 0) + more
                self._unsaved = True
        self._seen = seen
        full = [name for name in self._caps if self.used(name) >= self._caps[name]]
        now = self._clock()
        due = self._saved_at is None or abs((now - self._saved_at).total_seconds()) >= SAVE_EVERY
        if self._unsaved and (due or full):
            self.save()
        return full

    def used(self, name: str) -> int:
        """Return the bytes that a path has carried this month; 0 for one without a cap."""
        self._begin_month()
        return self._used.get(name, 0)

    def closed_until(self, name: str) -> datetime | None:
        """Return when a path that has used up its volume may be used again; None = it may be used."""
        cap = self._caps.get(name)
        if cap is None or self.used(name) < cap:
            return None
        year, month = map(int, self._month.split("-"))
        return datetime(year + month // 12, month % 12 + 1, 1)

    def report(self, name: str) -> dict[str, object]:
        """Return the volume of a path for its status; empty without a cap."""
        cap = self._caps.get(name)
        if cap is None:
            return {}
        until = self.closed_until(name)
        return {"cap": cap, "cap_used": self.used(name), "closed_until": until.isoformat() if until else None}

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if not self._unsaved:
            return
        self._saved_at = self._clock()
        text = json.dumps({"month": self._month, "used": self._used}, indent=1)
        fresh = self._file.with_name(f"{FILE}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file)
            self._unsaved = False
        except OSError as error:
            self._complain(f"cannot be written: {error.strerror or error}; counts of this run end with it")
            try:
                fresh.unlink(missing_ok=True)
            except OSError as left:
                log.debug("%s stays: %s", fresh, left)

    def _load(self) -> None:
        try:
            with self._file.open("rb") as file:
                plain = json.loads(file.read(_LARGEST_FILE))
            month, used = plain["month"], plain["used"]
            self._used = {str(name): max(0, int(size)) for name, size in used.items()}
            self._month = datetime.strptime(month, "%Y-%m").strftime("%Y-%m")
            self._begin_month()
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(f"cannot be read: {error.strerror or error}; volumes count from 0")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            self._used = {}
            self._complain(f"is damaged ({error}); volumes count from 0, and it is written anew")

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("the file of used volumes %s %s", self._file, what)

    def _begin_month(self) -> None:
        """Begin with nothing used in a later month than the last; a clock that goes back begins nothing."""
        month = self._this_month()
        if month > self._month:
            self._month = month
            self._unsaved = self._unsaved or bool(self._used)
            self._used = {}

    def _this_month(self) -> str:
        return self._clock().strftime("%Y-%m")


def _carried(lane: Mapping[str, object]) -> int:
    """Return all bytes of a lane as the network sees them, without frames of the link below."""
    numbers = {name: int(str(lane[name])) for name in ("sent", "sent_bytes", "received", "received_bytes")}
    version = 6 if str(lane.get("peer", "")).count(":") > 1 else 4
    packets = numbers["sent"] + numbers["received"]
    return numbers["sent_bytes"] + numbers["received_bytes"] + packets * HEADERS[version]
