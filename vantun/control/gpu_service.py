"""One GPU service, seen from the control process: started, listened to, and started again when it dies.

A service that was never ready is not started again: what is wrong with its device was said, and data workers use the
engine without it, or another one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Sequence

from vantun.control.backoff import Backoff
from vantun.control.worker_process import explain_exit

log = logging.getLogger(__name__)

LONG_LIFE = 60.0
"""Seconds after which a service counts as sound: the next start follows its death at once."""
_GRACE = 3.0
"""Seconds that it has to end by itself when its socket is closed."""
_LOOK_EVERY = 0.01
_LONGEST = 60_000
_COUNTS = ("clients", "jobs", "launches", "gather_us", "pinned", "copied_because")

Command = Callable[[str, int], Sequence[str]]
"""Returns the command line of a service, given the place of its socket and the descriptor of the one to us."""


class GpuService:
    """A service, and whoever comes after it.

    Parameters
    ----------
    engine, device
        What it has.
    command
        How it is started.
    changed
        Called when it serves, again or for the first time.

    Attributes
    ----------
    place
        Name of its socket, the same for every one that comes after it.
    state
        "starting", "serving", "waiting" for its next start, or "failed".
    reason
        Why it is not serving; empty while nothing was wrong.
    restarts
        How often it was started again.
    devices
        How many devices of its kind there are, as far as a service came; 0 = not known.
    settled
        Set while it serves, or has failed for good.
    """

    def __init__(self, engine: str, device: int, command: Command, changed: Callable[[], None]) -> None:
        self.engine = engine
        self.device = device
        self.place = f"@vantun-gpu-{os.getpid()}-{secrets.token_hex(8)}"
        self.state = "starting"
        self.reason = ""
        self.restarts = 0
        self.devices = 0
        self.settled = asyncio.Event()
        self._served = False
        self._command = command
        self._changed = changed
        self._counts: dict[str, object] = {}
        self._kernels: object = None
        self._before: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._task = asyncio.get_running_loop().create_task(self._live())

    def report(self) -> dict[str, object]:
        """Return what is known of it, as JSON; jobs and launches are those of all that there were."""
        jobs, launches = (self._before.get(name, 0) + _int(self._counts.get(name)) for name in ("jobs", "launches"))
        serving = self.state == "serving"
        return {
            "engine": self.engine,
            "device": self.device,
            "state": self.state,
            "reason": self.reason,
            "pid": self._process.pid if self._process is not None and serving else 0,
            "clients": _int(self._counts.get("clients")) if serving else 0,
            "jobs": jobs,
            "launches": launches,
            "jobs_per_launch": round(jobs / launches, 2) if launches else 0.0,
            "restarts": self.restarts,
            "gather_us": self._counts.get("gather_us", 0),
            "pinned": _int(self._counts.get("pinned")) if serving else 0,
            "kernels": self._kernels or [],
        }

    @property
    def copied_because(self) -> str:
        """Why its device does not copy from and to every client's memory directly; empty where it does, or never."""
        return str(self._counts.get("copied_because") or "") if self.state == "serving" else ""

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _name(self) -> str:
        return f"the GPU service of {self.engine}, device {self.device},"

    async def _live(self) -> None:
        backoff = Backoff()
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._once()
            except OSError as error:
                self.reason = f"it cannot be started: {error.strerror or error}"
            if not self._served:
                self.state = "failed"
                self.settled.set()
                log.warning("%s is not there: %s; data workers do without it", self._name, self.reason)
                return
            if clock() - began > LONG_LIFE:
                backoff.reset()
            pause = backoff.next()
            self.state = "waiting"
            log.error("%s is lost: %s; the next one is started in %.1f s", self._name, self.reason, pause)
            await asyncio.sleep(pause)
            self.restarts += 1
            self.state = "starting"

    async def _once(self) -> None:
        """Start a service and listen to it until it ends; ``reason`` says why it did."""
        from accel.child import environment

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - as asyncio wants it
        told = ""
        with ours:
            with theirs:
                line = self._command(self.place, theirs.fileno())
                self._process = process = subprocess.Popen(
                    line, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment()
                )
            try:
                told = await self._listen(ours)
            finally:
                ours.close()
                self.settled.clear()
                self._keep()
                await _end(process)
            self.reason = told or explain_exit(process.returncode or 0)

    async def _listen(self, ours: socket.socket) -> str:
        """Take in what the service tells until it ends, or has failed; return why, if it said so."""
        loop = asyncio.get_running_loop()
        while message := await loop.sock_recv(ours, _LONGEST):
            said = json.loads(message)
            self.devices = max(self.devices, _int(said.get("devices")))
            if "failed" in said:
                return str(said["failed"])
            self._counts = {name: said.get(name) for name in _COUNTS}
            if said.get("ready"):
                self._served = True
                self._kernels = said.get("kernels")
                self.state, self.reason = "serving", ""
                self.settled.set()
                log.info("%s serves, process %d", self._name, self._process.pid if self._process else 0)
                self._changed()
        return ""

    def _keep(self) -> None:
        """Have the counts of a service that has ended count with those of the next."""
        for name in ("jobs", "launches"):
            self._before[name] = self._before.get(name, 0) + _int(self._counts.pop(name, 0))


async def _end(process: subprocess.Popen[bytes]) -> None:
    """See to it that a process ends whose socket is closed."""
    clock = asyncio.get_running_loop().time
    end = clock() + _GRACE
    while process.poll() is None:
        if clock() >= end:
            process.kill()
        await asyncio.sleep(_LOOK_EVERY)


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
