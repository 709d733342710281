"""What an engine asks of a device: memory that both sides see in turn, and kernels in order.

A lane is a batch on its way: host memory that the device can copy from, the same again on the device, and commands that
run one behind the other. Lanes run beside each other, so that one copies while another computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from drivers.lanes import Batch, Room, Way

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint32]


class Lane(Protocol):
    """One batch on its way.

    Attributes
    ----------
    source, target, work
        Host memory, at addresses that are multiples of 64. It belongs to the device from ``begin`` to ``done``.
    """

    source: Bytes
    target: Bytes
    work: Words

    def begin(self, batch: Batch) -> None:
        """Copy in, compute, copy out; returns at once. Raises DriverError."""

    def done(self) -> bool:
        """Whether the batch that was begun is complete; raises DriverError when the device has failed."""

    def close(self) -> None:
        """Wait for what was begun, where the device still answers, and give the memory back."""


@runtime_checkable
class TimedLane(Lane, Protocol):
    """A lane that says how long its device takes; those of real devices do."""

    def compute_seconds(self, batch: Batch, times: int) -> float:
        """Return the device's seconds for a batch that is done, computed ``times`` times again without copies."""

    def copy_seconds(self, way: Way, size: int, times: int) -> float:
        """Return the device's seconds for a copy of ``size`` bytes; 0 where both sides are one memory."""


class Device(Protocol):
    """An opened device with a program on it, and what was added to it."""

    def add(self, text: str, kernels: Sequence[str]) -> None:
        """Put a further program on it; lanes can launch its kernels from then on. Raises DriverError."""

    def lane(self, room: Room) -> Lane:
        """Return a lane; raises DriverError when there is no memory."""

    def write_table(self, first: int, words: Words) -> None:
        """Write ``words`` of the table from word ``first`` on, before any later batch; the table grows as needed."""

    def close(self) -> None:
        """Fill the table with zeros and release the device."""


@runtime_checkable
class PinningDevice(Device, Protocol):
    """A device whose lanes copy from and to memory that is registered with it (``inward``, ``outward`` of a batch)."""

    def pin(self, address: int, size: int) -> str:
        """Register whole pages; return why not, "" = done. They stay where they are until :meth:`unpin`."""

    def unpin(self, address: int) -> None:
        """Take them back; nothing of them may be on its way. Raises DriverError."""


OpenDevice = Callable[[str, Sequence[str]], Device]
"""Opens a device with a program on it, given its text and its kernels; raises DriverError with the next step."""
