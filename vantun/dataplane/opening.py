"""Devices that no service has are opened in a thread of the worker, which serves by software meanwhile.

To open one may compile kernels for a minute, and its self-test takes as long as the device likes. Compilers and drivers
give Python's lock away while they work; what is left of a self-test holds packets up for milliseconds, not seconds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence

from accel.engine import EngineSession, Operation
from accel.gates import Gates
from drivers.errors import DriverError

Watch = Callable[[int, Callable[[], None]], None]
"""Has a function called when a descriptor becomes readable."""
Opened = Mapping[Operation, dict[int, EngineSession]]
"""Sessions by operation and ``id`` of their engine."""


class Opening:
    """Tries engines one after the other, and opens those that pass.

    Attributes
    ----------
    descriptor
        Readable when it is done; :meth:`finish` closes it.
    """

    def __init__(self, gates: Gates, wanted: Mapping[str, Sequence[Operation]]) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._gates = gates
        self._wanted = wanted
        self._sessions: dict[Operation, dict[int, EngineSession]] = {}
        self._thread = threading.Thread(target=self._run, name="vantun-opening", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for name, operations in self._wanted.items():
                for operation in operations:
                    if self._gates.try_now(name, operation).passed:
                        self._open(name, operation)
        finally:
            os.eventfd_write(self.descriptor, 1)

    def _open(self, name: str, operation: Operation) -> None:
        engine = self._gates.made(name, operation)
        try:
            self._sessions.setdefault(operation, {})[id(engine)] = engine.open(operation)
        except (
            DriverError,
            OSError,
            ValueError,
        ):  # who adopts it tries again, and says why not
            return

    def finish(self) -> Opened:
        """Return what was opened; wait for the thread, which is at its end."""
        self._thread.join()
        os.close(self.descriptor)
        return self._sessions
