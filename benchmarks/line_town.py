"""Two network namespaces joined by one or two veth pairs, and programs in them that end with this one.

::

    a (core 0)   192.0.2.1 -------- 192.0.2.2     b (core 1)
                 198.51.100.1 --- 198.51.100.2

Everything has a name that begins with ``vtline`` and tells the process that made it, so that the next run finds and
removes what a run that was killed outright has left.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from drivers.linux.wait import die_with_parent
from vantun.errors import VantunError

PREFIX = "vtline"
NETWORKS = ("192.0.2", "198.51.100")
"""First three bytes of the addresses of each pair; side a is .1, side b is .2."""
PROFILES = ("offload", "software")
SIDES = ("a", "b")
_CLONE_NEWNET = 0x40000000
_STOP = 3.0
"""Seconds from SIGTERM to SIGKILL."""


class LineError(VantunError):
    """The laboratory could not be set up, or a program in it has failed."""


def leftovers(names: list[str], alive: set[int]) -> list[str]:
    """Return the namespaces among ``names`` that a run has left whose process is none of ``alive``."""
    found = []
    for name in names:
        made = re.fullmatch(rf"{PREFIX}(\d+)[ab]", name)
        if made and int(made[1]) not in alive:
            found.append(name)
    return found


def run(*command: str, seconds: float = 30.0) -> str:
    """Run a program to its end and return what it wrote.

    Raises
    ------
    LineError
        When it is missing, fails or does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise LineError(f"{command[0]} is not installed; install it, e.g. with apt-get") from None
    except subprocess.TimeoutExpired:
        raise LineError(f"{' '.join(command)} did not end within {seconds:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LineError(f"{' '.join(command)} failed with code {done.returncode}: {said[-500:]}")
    return done.stdout


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, as far as they live."""
    found, waiting = [], [pid]
    while waiting:
        here = waiting.pop()
        with suppress(FileNotFoundError, ProcessLookupError):
            threads = list(Path(f"/proc/{here}/task").iterdir())
            found.append(here)
            for thread in threads:
                with suppress(FileNotFoundError, ProcessLookupError):
                    waiting += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


@dataclass
class Program:
    """A program that runs in a namespace; its output is in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    terminates: bool = True
    """Whether it is asked to end before it is killed."""

    @property
    def pids(self) -> list[int]:
        """Its process and those that this has started."""
        return descendants(self.process.pid)

    @property
    def said(self) -> str:
        """The last lines of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-6:]
        return "it said: " + "; ".join(lines) if lines else "it said nothing"

    def check(self) -> None:
        """Raise LineError if it has ended."""
        if (code := self.process.poll()) is not None:
            raise LineError(f"{self.name} has ended with code {code}; {self.said}")

    def wait(self, seconds: float) -> str:
        """Return all its output once it has ended well; LineError otherwise."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LineError(f"{self.name} did not end within {seconds:g} s; {self.said}") from None
        if code:
            raise LineError(f"{self.name} failed with code {code}; {self.said}")
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None and self.terminates:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Town:
    """Both namespaces, their links and programs; a context manager.

    Attributes
    ----------
    folder
        For files of the programs; gone when left.
    links
        Number of veth pairs.
    """

    def __init__(self, folder: Path, *, links: int = 2, profile: str = "offload", pin: bool = True) -> None:
        self.folder = folder
        self.links = links
        self.names = {side: f"{PREFIX}{os.getpid()}{side}" for side in SIDES}
        self._profile = profile
        self._cores = _cores(pin=pin)
        self._programs: list[Program] = []
        self._serial = 0

    @property
    def pinned(self) -> bool:
        """Whether each side has a core for itself."""
        return bool(self._cores)

    def __enter__(self) -> Town:
        if os.geteuid() != 0:
            raise LineError("the line laboratory makes network namespaces and TUN devices: run it as root")
        for tool in ("ip", "ss", "ethtool", "taskset"):
            if shutil.which(tool) is None:
                raise LineError(f"{tool} is not installed; apt-get install iproute2 ethtool util-linux")
        remove_leftovers()
        try:
            for name in self.names.values():
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            for number in range(self.links):
                self._link(number)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every program and remove the namespaces, and with them the links."""
        self.end(self._programs)
        for name in self.names.values():
            remove(name)

    def end(self, programs: list[Program]) -> None:
        """End programs, the newest first."""
        for program in reversed(list(programs)):
            program.end()
            if program in self._programs:
                self._programs.remove(program)

    def end_others(self, keep: list[Program]) -> None:
        """End every program but these."""
        self.end([program for program in self._programs if program not in keep])

    def address(self, side: str, link: int = 0) -> str:
        """Return the address of a side on a link."""
        return f"{NETWORKS[link]}.{1 + SIDES.index(side)}"

    def device(self, side: str, link: int = 0) -> str:
        """Return the name of a side's interface of a link."""
        return f"line{side}{link}"

    def enter(self, side: str) -> list[str]:
        """Return the words that run a program on a side and its core."""
        words = ["ip", "netns", "exec", self.names[side]]
        return words + (["taskset", "-c", str(self._cores[SIDES.index(side)])] if self._cores else [])

    def run(self, side: str, *command: str, seconds: float = 30.0) -> str:
        """Run a program on a side to its end and return what it wrote; see :func:`run`."""
        return run(*self.enter(side), *command, seconds=seconds)

    def spawn(self, side: str, *command: str, name: str = "", terminates: bool = True) -> Program:
        """Start a program on a side; it ends with this process, however that ends."""
        self._serial += 1
        log = self.folder / f"{self._serial:03}-{side}-{Path(name or command[0]).name}.log"
        with log.open("wb") as output:
            process = _popen([*self.enter(side), *command], output)
        program = Program(f"{name or Path(command[0]).name} ({side})", process, log, terminates)
        self._programs.append(program)
        return program

    def set_profile(self, profile: str) -> None:
        """Let interfaces segment UDP as a NIC with USO does (``offload``), or have the kernel do it (``software``)."""
        self._profile = profile
        for number in range(self.links):
            self._apply_profile(number)

    def offloads(self, link: int, *, on: bool) -> None:
        """Switch everything of a link on or off that lets one buffer be more than one packet."""
        state = "on" if on else "off"
        for side in SIDES:
            words = ["tso", state, "gso", state, "gro", state, "tx-udp-segmentation", state]
            run(*self.enter(side), "ethtool", "-K", self.device(side, link), *words)

    def _link(self, number: int) -> None:
        near, far = (self.device(side, number) for side in SIDES)
        run(
            *("ip", "-n", self.names["a"], "link", "add", near, "mtu", "1500", "type", "veth"),
            *("peer", far, "netns", self.names["b"]),
        )
        for side in SIDES:
            device = self.device(side, number)
            run("ip", "-n", self.names[side], "address", "add", f"{self.address(side, number)}/24", "dev", device)
            run("ip", "-n", self.names[side], "link", "set", device, "mtu", "1500", "up")
        self._apply_profile(number)

    def _apply_profile(self, number: int) -> None:
        state = "on" if self._profile == "offload" else "off"
        for side in SIDES:
            run(*self.enter(side), "ethtool", "-K", self.device(side, number), "tx-udp-segmentation", state)


def _cores(*, pin: bool) -> tuple[int, ...]:
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if pin and len(allowed) > 1 else ()


def _popen(command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    # Signals wait meanwhile: what is raised while Python runs its callbacks of a fork is printed and forgotten.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        die_with_parent(signal.SIGTERM)

    try:
        # A session of its own: Ctrl-C is for this program, which then ends everything in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=begin,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def remove_leftovers() -> list[str]:
    """Remove the namespaces of runs that are no more; return their names."""
    shown = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]
    alive = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = leftovers(shown, alive)
    for name in found:
        remove(name)
    return found


def remove(name: str) -> None:
    """End what still runs in a namespace, and remove it; nothing happens if there is none."""
    asked = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    for pid in asked.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def wait_until(condition: Callable[[], object], what: str, programs: list[Program], seconds: float = 20.0) -> None:
    """Poll until ``condition()`` holds while the programs live.

    Raises
    ------
    LineError
        When one of them ends, or it takes longer than ``seconds``.
    """
    end = time.monotonic() + seconds
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > end:
            said = "; ".join(f"{program.name}: {program.said}" for program in programs)
            raise LineError(f"not within {seconds:g} s: {what}; {said}")
        time.sleep(0.02)


@contextmanager
def inside(town: Town, side: str) -> Iterator[None]:
    """Have the sockets that this thread opens meanwhile belong to a side."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{town.names[side]}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter_namespace(libc, there)
        try:
            yield
        finally:
            _enter_namespace(libc, home)
    finally:
        os.close(home)
        os.close(there)


def _enter_namespace(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise LineError(f"entering a network namespace: {os.strerror(ctypes.get_errno())}; run it as root")
