"""What calibration has measured, in a file of the state folder: JSON, this user's own, true for one fingerprint.

A file that is missing, damaged, another user's, of another machine or old is a value with a reason, never an error.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accel.engine import Operation
from accel.fingerprint import Fingerprint, digest

FILE = "engines.json"
OLDEST = 30 * 86400.0
"""Seconds that a profile holds."""
_FORMAT = 1
_LARGEST = 4 << 20


@dataclass(frozen=True)
class Cell:
    """One measurement: what a batch takes.

    Attributes
    ----------
    shape
        E.g. ``"1350 B"`` or ``"(10,4) 1200 B"``.
    size, batch
        Bytes of a row, or of a unit; rows, or spans.
    wall_ns, cpu_ns, p99_ns
        Of a whole batch: medians of wall and CPU time, 99th percentile of wall time.
    octets
        Bytes that a batch works on: what GB/s counts.
    """

    engine: str
    operation: str
    shape: str
    size: int
    batch: int
    wall_ns: float
    cpu_ns: float
    p99_ns: float
    octets: int

    @property
    def row_octets(self) -> float:
        """Bytes of a row that count: a packet, or the data of a span."""
        return self.octets / self.batch

    @property
    def ns_per_row(self) -> float:
        """Wall time of one row."""
        return self.wall_ns / self.batch

    @property
    def gigabytes(self) -> float:
        """GB/s by wall time."""
        return self.octets / self.wall_ns


@dataclass(frozen=True)
class Finding:
    """What a child process has found out about an engine and an operation; as :class:`accel.selftest.Verdict`."""

    passed: bool
    reason: str
    kernels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, said: Any) -> Finding:
        """Return it from JSON; ``kernels`` may be missing. Raises ValueError, KeyError or TypeError."""
        return cls(bool(said["passed"]), str(said["reason"]), tuple(str(each) for each in said.get("kernels", ())))


@dataclass(frozen=True)
class Profile:
    """Everything that is known by measurement.

    Attributes
    ----------
    measured_at
        Seconds since 1970.
    tested
        Engine -> operation -> verdict of its self-test in a child process.
    """

    fingerprint: Fingerprint
    measured_at: float
    cells: tuple[Cell, ...] = ()
    tested: Mapping[str, Mapping[str, Finding]] = field(default_factory=dict)

    def of(self, operation: Operation, engine: str | None = None) -> list[Cell]:
        """Return the cells of an operation, of one engine or of all."""
        return [cell for cell in self.cells if cell.operation == operation.value and engine in (None, cell.engine)]


@dataclass(frozen=True)
class NoProfile:
    """Why there is no profile to go by."""

    reason: str

    def __bool__(self) -> bool:
        return False


def load_profile(file: Path, present: Fingerprint, now: float) -> Profile | NoProfile:
    """Return the profile in ``file`` if it is this machine's; never raises."""
    try:
        text = _read(file)
        if isinstance(text, NoProfile):
            return text
        profile = _parse(json.loads(text))
    except FileNotFoundError:
        return NoProfile("nothing was measured yet")
    except OSError as error:
        return NoProfile(f"{file} cannot be read: {error.strerror}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return NoProfile(f"{file} is damaged ({type(error).__name__}); it is measured again")
    if digest(profile.fingerprint) != digest(present):
        return NoProfile(f"it was measured with another {' and '.join(_changed(profile.fingerprint, present))}")
    if not 0 <= now - profile.measured_at <= OLDEST:
        return NoProfile(f"it is not of the last {OLDEST / 86400:.0f} days")
    return profile


def _read(file: Path) -> bytes | NoProfile:
    """Read a file that nobody else could have written."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as opened:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o022:
            return NoProfile(f"{file} is no file of this user's alone; remove it")
        if facts.st_size > _LARGEST:
            return NoProfile(f"{file} is longer than any profile; remove it")
        return opened.read(_LARGEST)


def _changed(before: Fingerprint, now: Fingerprint) -> list[str]:
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


def _parse(document: Any) -> Profile:
    if document["format"] != _FORMAT:
        raise ValueError("another format")
    cells = tuple(_cell(each) for each in document["cells"])
    tested = {
        str(engine): {str(name): Finding.parse(each) for name, each in verdicts.items()}
        for engine, verdicts in document["tested"].items()
    }
    return Profile(dict(document["fingerprint"]), float(document["measured_at"]), cells, tested)


def _cell(each: Any) -> Cell:
    texts = {name: str(each[name]) for name in ("engine", "operation", "shape")}
    whole = {name: int(each[name]) for name in ("size", "batch", "octets")}
    times = {name: float(each[name]) for name in ("wall_ns", "cpu_ns", "p99_ns")}
    if min(whole.values()) < 1 or not all(0 < value < 1e15 for value in times.values()):
        raise ValueError("no measurement")
    return Cell(**texts, **whole, **times)  # type: ignore[arg-type]


def save_profile(file: Path, profile: Profile) -> None:
    """Write a profile, whole or not at all. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {"format": _FORMAT, **asdict(profile)}
    import tempfile  # who measures writes; all others read

    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as opened:
            json.dump(document, opened, indent=1)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


class Measured:
    """The cells of one engine and operation, as what its batches are expected to take (see accel/rung.py)."""

    def __init__(self, cells: Iterable[Cell], *, cpu: bool) -> None:
        """``cpu`` = go by CPU time, as for engines that work on this CPU."""
        self._cells = sorted(cells, key=lambda cell: (cell.batch, cell.row_octets))
        self._cpu = cpu

    def batch_ns(self, rows: int, size: float) -> float:
        """Return the nanoseconds that rows of ``size`` bytes should take; 0 = nothing like them was measured."""
        cell = self._nearest(rows, size)
        if cell is None:
            return 0.0
        took = cell.cpu_ns if self._cpu else cell.wall_ns
        return took * max(1.0, rows / cell.batch) * max(1.0, size / cell.row_octets)

    def p99_ns(self, rows: int, size: float) -> float:
        """Return the nanoseconds that 99 of 100 batches take at most."""
        cell = self._nearest(rows, size)
        if cell is None:
            return 0.0
        return cell.p99_ns * max(1.0, rows / cell.batch) * max(1.0, size / cell.row_octets)

    def _nearest(self, rows: int, size: float) -> Cell | None:
        """Return the cell of the largest batch below, or the smallest, in the size that is nearest."""
        if not self._cells:
            return None
        below = [cell for cell in self._cells if cell.batch <= rows] or self._cells[:1]
        batch = below[-1].batch
        return min((cell for cell in self._cells if cell.batch == batch), key=lambda cell: abs(cell.row_octets - size))
