"""What a device can do at most: copies, logic operations, and the rooflines that follow for each piece of work.

A copy counts its bytes twice where source and target lie in the device's memory, for it reads and writes them. The
logic rate is that of a kernel without memory: instructions that take two words and a third (``x & y ^ z``), which a GPU
does in one. What the work needs of them is counted in the sources of accel/device/*.h, and stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import numpy as np

from accel.device.port import Device, Lane, TimedLane
from accel.engine import Suite
from drivers.errors import DriverError
from drivers.lanes import Batch, Launch, Room, Way

HEADER = 8
"""Words of a lane's header; word 5 has the items of the first launch (accel/device/dialect.h)."""
_ITEMS_AT = 5
_TURNS, _CHAINS, _STEPS = 64, 8, 16
"""Of the kernel: turns of its loop, words that it works on, steps of each in a turn."""
_KERNEL = f"""
KERNEL(logic_rate, 0) {{
    u32 x[{_CHAINS}];
    UNROLL
    for (u32 i = 0; i < {_CHAINS}; i++) x[i] = item * 0x9e3779b9u + i * 0x85ebca6bu + work[0];
    KEEP_LOOP
    for (u32 turn = 0; turn < {_TURNS}; turn++) {{
        UNROLL
        for (u32 step = 0; step < {_STEPS}; step++) {{
            UNROLL
            for (u32 i = 0; i < {_CHAINS}; i++) x[i] = (x[i] & x[(i + 1) % {_CHAINS}]) ^ x[(i + 3) % {_CHAINS}];
        }}
    }}
    u32 sum = 0;
    UNROLL
    for (u32 i = 0; i < {_CHAINS}; i++) sum ^= x[i];
    ((GLOBAL u32 *)target)[item % 1024] = sum;
}}
"""
_WAIT = 300.0


@dataclass(frozen=True)
class Rates:
    """A device's limits, all in units per second.

    Attributes
    ----------
    memory
        Bytes read and written by a copy within its memory.
    inward, outward
        Bytes copied from the host's memory and to it; 0 = there is one memory for both.
    logic
        Logic instructions of 32 bits.
    """

    memory: float
    inward: float
    outward: float
    logic: float


def logic_text() -> str:
    """Return the program of the kernel that measures the logic rate."""
    dialect = files("accel.device").joinpath("dialect.h").read_text(encoding="ascii")
    return dialect + _KERNEL


def measure_rates(open_device: Callable[[str, Sequence[str]], Device], size: int, items: int) -> Rates:
    """Measure copies of ``size`` bytes, and the logic kernel with ``items`` work items. Raises DriverError."""
    device = open_device(logic_text(), ("logic_rate",))
    try:
        lane = timed(device.lane(Room(source=size, target=max(size, 4096), work=2 * HEADER, scratch=64)))
        lane.source[:] = 0x5A
        lane.work[:HEADER] = 0
        lane.work[_ITEMS_AT] = items
        batch = Batch((Launch("logic_rate", items),), size, size, HEADER)
        lane.begin(batch)
        settle(lane)
        seconds = {way: repeated(partial(lane.copy_seconds, way, size)) for way in Way}
        logic = repeated(partial(lane.compute_seconds, batch))
        lane.close()
    finally:
        device.close()
    operations = items * _TURNS * _CHAINS * _STEPS
    return Rates(
        memory=2 * size / seconds[Way.WITHIN],
        inward=size / seconds[Way.IN] if seconds[Way.IN] else 0.0,
        outward=size / seconds[Way.OUT] if seconds[Way.OUT] else 0.0,
        logic=operations / logic,
    )


def timed(lane: Lane) -> TimedLane:
    """Return a lane that says how long its device takes. Raises DriverError for one that does not."""
    if not hasattr(lane, "compute_seconds"):
        raise DriverError(f"a {type(lane).__name__} has no clock of the device; benchmark a real device, or PoCL")
    return lane  # type: ignore[return-value]


def settle(lane: Lane) -> None:
    """Wait for what was begun. Raises DriverError."""
    import time

    until = time.monotonic() + _WAIT
    while not lane.done():
        if time.monotonic() > until:
            raise DriverError(f"the device did not finish a batch within {_WAIT:g} s; restart it")


def repeated(seconds: Callable[[int], float], budget: float = 0.2, rounds: int = 5) -> float:
    """Return the median of ``rounds`` measurements of ``seconds``, which repeats as often as it is told."""
    once = seconds(1)
    if not once:
        return 0.0
    times = int(min(max(budget / rounds / once, 1), 1000))
    return float(np.median([seconds(times) for _ in range(rounds)]))


# --- what the work needs

_AES_128, _GHASH, _CHACHA20, _POLY1305 = 31.8, 35.5, 15.5, 5.3
"""Instructions for a byte. AES, bit-sliced (aes.h): a round of 128 bytes has 640 gates of two inputs, two of which are
one instruction, and 24 rotations; two transpositions. GHASH (ghash.h): nine products of 16 wide multiplications each,
which count twice, and their masks, for 16 bytes. ChaCha20: 960 + 32 for 64 bytes. Poly1305: 25 wide multiplications,
and as much again for limbs and carries, for 16 bytes."""
_OF_SUITE = {Suite.AES_128_GCM: _AES_128 + _GHASH, Suite.CHACHA20_POLY1305: _CHACHA20 + _POLY1305}


_COMPILED = ((4, 168), (8, 200), (16, 260), (32, 520))
"""Up to so many rows: instructions for 32 bytes, loads included, of kernels with rows compiled in (docs/cuda.md)."""


def code_instructions(m: int, *, permute: bool, compiled: bool) -> float:
    """Return the instructions of code 1 for a byte of data and ``m`` rows.

    Parameters
    ----------
    permute
        The general kernel (code1.h) goes by byte permutations (CUDA), five instructions for a word and a row and seven
        for each four rows; else by masks.
    compiled
        There are kernels with rows compiled in: what they take counts where it is less.
    """
    per_row, per_group = (5, 7) if permute else (8, 24)
    general = (per_row * m + per_group * -(-m // 4)) / 4
    return min([general, *(count / 32 for rows, count in _COMPILED if compiled and m <= rows)])


@dataclass(frozen=True)
class Roofline:
    """Bytes of data per second that a device could do at most: by its memory, and by its logic."""

    memory: float
    logic: float

    @property
    def least(self) -> float:
        """The bound."""
        return min(self.memory, self.logic)

    @property
    def bound(self) -> str:
        """What bounds it."""
        return "memory" if self.memory <= self.logic else "ALU"


def code_roofline(rates: Rates, k: int, m: int, *, permute: bool, compiled: bool) -> Roofline:
    """Return the roofline of encoding (``compiled``), or of rebuilding m lost units, in bytes of data units."""
    instructions = code_instructions(m, permute=permute, compiled=compiled)
    return Roofline(rates.memory * k / (k + m), rates.logic / instructions)


def suite_roofline(rates: Rates, suite: Suite) -> Roofline:
    """Return the roofline of sealing packets."""
    return Roofline(rates.memory / 2, rates.logic / _OF_SUITE[suite])
