"""Batches for devices that have memory of their own: how much room, and what to launch.

A lane of a device (:class:`accel.device.port.Lane`) has host memory for what is read, what is written and what is to be
done; a batch says how much of each counts, and which kernels run in which order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


@dataclass(frozen=True)
class Room:
    """What a lane has room for: bytes of source and target (multiples of 16), words of work and of scratch."""

    source: int
    target: int
    work: int
    scratch: int


class Launch(NamedTuple):
    """A kernel, and the number of its work items."""

    kernel: str
    items: int


class Run(NamedTuple):
    """Bytes of pinned memory that are a part of a batch's source, or of its target: address, bytes."""

    address: int
    size: int


class Batch(NamedTuple):
    """What a lane is to do, in the words and bytes that were laid out in it.

    Attributes
    ----------
    launches
        In order; one with no items is left out.
    source, target
        Bytes that were written, and that are wanted back.
    work
        Words that were written.
    inward, outward
        Pinned memory that is copied from in place of the lane's source, and to in place of its target: in order,
        together as many bytes; empty = the lane's own memory.
    """

    launches: tuple[Launch, ...]
    source: int
    target: int
    work: int
    inward: tuple[Run, ...] = ()
    outward: tuple[Run, ...] = ()


class Way(Enum):
    """A copy of a lane's bytes."""

    IN = "in"
    """From the host's source to the device's."""
    OUT = "out"
    """From the device's target to the host's."""
    WITHIN = "within"
    """From the device's source to its target."""
