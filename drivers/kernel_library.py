"""The library of kernels that were compiled ahead of time: a folder with one shared object for each CPU level.

``library.json`` says what each kernel takes and returns, of which sources it was made, and what code objects have to
choose from: a level does not imply all that a processor can do, so an object is told once, when it is loaded. A library
of other sources, of another machine, or whose code gives a wrong known answer on this processor is refused with a
reason. The known answers are asked in a child process, once for each start of the machine and choice: what dies there
of SIGILL is a reason, too.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.checksum import checksum
from drivers.cpu import LEVELS, Cpu, read_cpu
from drivers.kernel_calls import Entry, layout_fault

FORMAT = 2
MANIFEST = "library.json"
SELF_TEST = "vantun_self_test"
"""``i64 vantun_self_test()`` of every object: 0 if its code gives the known answers, else which one it did not give."""
_TRIAL_TIME = 20.0
"""Seconds that the child may take."""
_TRIAL = """
import ctypes, sys
code = ctypes.PyDLL(sys.argv[1])
for name, number in zip(sys.argv[3::2], sys.argv[4::2]):
    code[name](ctypes.c_int64(int(number)))
sys.exit(1 if code[sys.argv[2]]() else 0)
"""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class NoLibrary:
    """Why there is no library, and what would give one."""

    reason: str
    next_step: str

    def entry(self, name: str) -> Entry | None:
        """Return None."""
        return None

    def address(self, symbol: str) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True)
class KernelLibrary:
    """An opened library.

    Attributes
    ----------
    folder, level
        Where it is, and the CPU level of the object that was chosen.
    reason, next_step
        Empty; as in :class:`NoLibrary`.
    """

    folder: Path
    level: str
    code: ctypes.PyDLL
    entries: Mapping[str, Mapping[str, Any]]
    reason: str = ""
    next_step: str = ""
    _made: dict[str, Entry] = field(default_factory=dict)

    def entry(self, name: str) -> Entry | None:
        """Return a kernel by ``module.function``, None if the library does not have it."""
        known = self.entries.get(name)
        if known is None:
            return None
        if name not in self._made:
            address = self.address(known["symbol"])
            if not address:
                return None
            self._made[name] = Entry(name, address, tuple(known["arguments"]), known["result"])
        return self._made[name]

    def address(self, symbol: str) -> int:
        """Return the address of an exported function, 0 if there is none."""
        try:
            return ctypes.cast(self.code[symbol], ctypes.c_void_p).value or 0
        except AttributeError:
            return 0


def digest(path: Path) -> str:
    """Return the checksum of a file."""
    return checksum(path.read_bytes())


def choose_level(levels: Mapping[str, Any], cpu: Cpu) -> str:
    """Return the widest of ``levels`` that the processor has; empty if it has none of them."""
    if cpu.machine != "x86_64":
        return cpu.machine if cpu.machine in levels else ""
    fitting = [name for name, needs in LEVELS.items() if needs <= cpu.flags and name in levels]
    return fitting[0] if fitting else ""


def choose_code(choices: Mapping[str, Any], cpu: Cpu) -> dict[str, int]:
    """Return, for each function that an object is told its choice by, the first one whose flags the processor has.

    ``choices`` are lists of flags for each number that the function takes, the fastest first; the last needs none.
    """
    return {
        name: next(number for number, needs in enumerate(numbers) if cpu.flags.issuperset(needs))
        for name, numbers in choices.items()
    }


def open_library(folder: Path, root: Path, marks: Path | None) -> KernelLibrary | NoLibrary:
    """Return the library in ``folder``, or why it cannot be used. Never raises.

    ``root`` is the folder of the packages, to which the names of sources are relative; ``marks`` is where it may be
    noted that the trial has passed (None: it is made every time).
    """
    build = "vantun accel warm"
    fault = layout_fault()
    if fault:
        return NoLibrary(fault, "use CPython with its global lock, 64-bit, and a released numpy")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if not isinstance(manifest["entries"], dict):
            return NoLibrary(f"the library in {folder} names no kernels", build)
        if manifest["format"] != FORMAT or manifest["machine"] != platform.machine():
            of = f"{manifest['machine']}, format {manifest['format']}"
            return NoLibrary(f"the library in {folder} is for {of}", build)
        for name, wanted in manifest["sources"].items():
            if digest(root / name) != wanted:
                return NoLibrary(f"{name} has changed since the library was built", build)
        cpu = read_cpu()
        level = choose_level(manifest["objects"], cpu)
        if not level:
            return NoLibrary(f"the library has no code for this processor ({cpu.machine})", build)
        known = manifest["objects"][level]
        path = folder / known["file"]
        if digest(path) != known["digest"]:
            return NoLibrary(f"{path} is not what was built", build)
        chosen = choose_code(manifest["choices"], cpu)
        failed = _trial(path, known["digest"], chosen, marks)
        if failed:
            return NoLibrary(f"{path} failed its trial: {failed}", f"{build}; if that does not help, report it")
        code = ctypes.PyDLL(str(path))
        for name, number in chosen.items():
            code[name](ctypes.c_int64(number))
        return KernelLibrary(folder, level, code, manifest["entries"])
    except FileNotFoundError as error:
        return NoLibrary(f"there is no {error.filename}", build)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        return NoLibrary(f"the library in {folder} cannot be read: {type(error).__name__} {error}", build)


def _trial(path: Path, wanted: str, chosen: Mapping[str, int], marks: Path | None) -> str:
    """Ask an object for its known answers in a child process; return what went wrong."""
    choice = [word for name, number in chosen.items() for word in (name, str(number))]
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = ""
    passed = " ".join([boot, *choice])
    mark = marks / f"tried-{wanted[:16]}" if marks and boot else None
    try:
        if mark and mark.read_text() == passed:
            return ""
    except OSError:
        pass  # not tried yet
    import subprocess  # once for each start of the machine

    command = [sys.executable, "-I", "-S", "-c", _TRIAL, str(path), SELF_TEST, *choice]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_TRIAL_TIME, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if child.returncode < 0:
        return f"it died of signal {-child.returncode}"
    if child.returncode:
        return (child.stderr.decode(errors="replace").strip().splitlines() or ["a known answer came out wrong"])[-1]
    if mark:
        try:
            mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.write_text(passed)
        except OSError:
            mark = None  # the next start tries again
    return ""
