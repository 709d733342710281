"""What an appliance has changed on this machine for its TUN device, so that after a crash the next start undoes it.

A record is written before the change that it tells of. It names the network namespace and the boot that it is about,
and its owner by process id and start time: a record whose owner lives is respected, any other is a leftover. Settings
that several appliances need (``ip_forward``) go back to what they were when the last of them stops.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from drivers.errors import SystemCallError
from drivers.linux import sysctl
from vantun.errors import ResourceError

SLOTS = 16
"""Devices in one network namespace: each has a mark, a routing table and a range of priorities of its own."""
_SO_NETNS_COOKIE = 71
_START_TIME = 19
"""Index of the start time among the fields of /proc/PID/stat behind the program's name."""

Read = Callable[[str], str | None]
Write = Callable[[str, str], None]


@dataclass
class Record:
    """What one appliance has changed.

    Attributes
    ----------
    device
        Name of its TUN interface.
    slot
        0 to SLOTS - 1.
    boot, namespace, pid, started
        Whose record it is.
    settings
        Name -> (value before, value that was set); equal when nothing had to be changed.
    """

    device: str
    slot: int
    boot: str
    namespace: int
    pid: int
    started: int
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)


class TunRecords:
    """The records of one folder, as one appliance of one network namespace sees them.

    Parameters
    ----------
    folder
        Made when it is missing. Raises ResourceError when that is not possible.
    """

    def __init__(self, folder: Path, read: Read = sysctl.read, write: Write = sysctl.write) -> None:
        self.folder = folder
        self._read, self._write = read, write
        self._boot = _boot_id()
        self._namespace = _namespace()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"tun: the folder {folder} for what has to be undone after a crash cannot be made: {error.strerror}; "
                "make it, or run as its owner"
            ) from None

    def claim(self, device: str) -> tuple[Record, bool]:
        """Take a device; return our record, and whether an appliance has crashed with it: its settings are set back.

        Raises
        ------
        ResourceError
            When another appliance has the device, or there is no slot.
        """
        with self._locked():
            others = list(self._here())
            mine = next((record for record in others if record.device == device), None)
            if mine is not None and _is_alive(mine) and mine.pid != os.getpid():
                raise ResourceError(
                    f"tun: process {mine.pid} has the interface {device}; stop it, or give this one another tun.name"
                )
            used = {record.slot for record in others if record is not mine and _is_alive(record)}
            first = mine.slot if mine is not None else zlib.crc32(device.encode()) % SLOTS
            slot = next((it % SLOTS for it in range(first, first + SLOTS) if it % SLOTS not in used), None)
            if slot is None:
                raise ResourceError(f"tun: {SLOTS} appliances have TUN interfaces here; stop one of them")
            if mine is not None:
                self._restore(mine)
            pid = os.getpid()
            record = Record(device, slot, self._boot, self._namespace, pid, _start_time(pid) or 0)
            self._save(record)
            return record, mine is not None

    def set(self, record: Record, name: str, value: str) -> None:
        """Change a kernel setting and remember what it was. Raises DriverError; a setting that is missing is left."""
        with self._locked():
            now = self._read(name)
            if now is None:
                return
            before = record.settings.get(name, (now, value))[0]
            record.settings[name] = (before, value)
            self._save(record)
            if now != value:
                self._write(name, value)

    def release(self, record: Record) -> list[str]:
        """Set everything back that nobody else needs, and forget the record; return what could not be undone."""
        with self._locked():
            return self._restore(record)

    def _restore(self, record: Record) -> list[str]:
        failed: list[str] = []
        others = [it for it in self._here() if it.device != record.device and _is_alive(it)]
        for name, (before, value) in record.settings.items():
            heir = next((it for it in others if name in it.settings), None)
            if heir is not None:  # it goes on; and when it stops, it restores what we found
                heir.settings[name] = (before, heir.settings[name][1])
                self._save(heir)
                continue
            try:
                if before != value and self._read(name) == value:
                    self._write(name, before)
            except SystemCallError as error:
                failed.append(str(error))
        self._place(record.device).unlink(missing_ok=True)
        return failed

    def _place(self, device: str) -> Path:
        return self.folder / f"tun-{device}-{self._namespace}.json"

    def _save(self, record: Record) -> None:
        place = self._place(record.device)
        fresh = place.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
        fresh.replace(place)

    def _here(self) -> Iterator[Record]:
        """Yield the records of this namespace and boot; those of another boot are about nothing any more."""
        for place in sorted(self.folder.glob(f"tun-*-{self._namespace}.json")):
            record = _load(place)
            if record is None or record.boot != self._boot:
                place.unlink(missing_ok=True)
            else:
                yield record

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "tun.lock").open("a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _load(place: Path) -> Record | None:
    try:
        plain = json.loads(place.read_text(encoding="utf-8"))
        settings = {str(name): (str(pair[0]), str(pair[1])) for name, pair in plain.pop("settings").items()}
        return Record(**plain, settings=settings)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _is_alive(record: Record) -> bool:
    return _start_time(record.pid) == record.started


def _start_time(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[_START_TIME])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> int:
    """Return what tells this network namespace from every other one of this boot."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:  # before Linux 5.14; an inode may come again once its namespace is gone
            return os.stat("/proc/thread-self/ns/net").st_ino
