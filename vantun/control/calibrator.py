"""Measuring the engines in the background, once for each machine: a niced child process, while packets flow.

Only one of several appliances of a user measures; the others find its profile when it is done.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import subprocess
from collections.abc import Callable

from vantun.config_accel import AccelConfig

log = logging.getLogger(__name__)

DELAY = 3.0
"""Seconds after the start: an appliance that has just begun has better things to do."""
LIMIT = 300.0
"""Seconds that the child may take; it is niced, and a checkout compiles."""


class Calibrator:
    """Sees that the machine is measured, and says when it was.

    Parameters
    ----------
    done
        Called when there is a new profile.

    Attributes
    ----------
    state
        "off", "known", "waiting", "measuring", "measured" or "failed".
    reason
        Why it is that.
    """

    def __init__(self, config: AccelConfig, done: Callable[[], None], delay: float = DELAY) -> None:
        self.state = "off" if config.calibration == "off" else "waiting"
        self.reason = "accel.calibration is off" if self.state == "off" else ""
        self._config = config
        self._done = done
        self._delay = delay
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless it is not wanted."""
        if self._task is None and self.state != "off":
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End the child, if it runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def report(self) -> dict[str, object]:
        """Return the state as JSON."""
        return {"state": self.state, "reason": self.reason}

    async def _run(self) -> None:
        await asyncio.sleep(self._delay)
        try:
            await self._measure()
        except OSError as error:
            self.state, self.reason = "failed", f"{error.strerror or error}"
        if self.state == "failed":
            log.warning("engines could not be measured: %s; they serve by rank", self.reason)

    async def _measure(self) -> None:
        from vantun.accel_known import known_profile, profile_file

        file = profile_file()
        found = known_profile(self._config)
        if found:
            self.state, self.reason = "known", "measured before"
            return
        self.reason = getattr(found, "reason", "")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(file.with_suffix(".lock"), "w", encoding="ascii") as lock:
            while not _locked(lock.fileno()):
                await asyncio.sleep(self._delay)
            if not known_profile(self._config):
                self.state = "measuring"
                log.info("measuring engines in the background: %s", self.reason)
                await self._child()
        if self.state != "failed":
            self.state = "measured"
            self._done()

    async def _child(self) -> None:
        from accel.child import environment
        from vantun.accel_known import calibration_command

        line = calibration_command(self._config)
        child = await asyncio.create_subprocess_exec(
            *line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        try:
            async with asyncio.timeout(LIMIT):
                _, said = await child.communicate()
        except TimeoutError:
            self.state, self.reason = "failed", f"it took more than {LIMIT:.0f} s"
            return
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            self.state, self.reason = "failed", f"the child process ended with {child.returncode}: {' '.join(last)}"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
