"""One direction of an emulated path: ``now`` in, delivery times out; no clock, no socket, no random state.

A packet meets the tail-drop queue, is serialised at ``rate``, then lost, delayed, jittered and perhaps doubled. Loss
comes *after* the queue: a lost packet has used its link time, else ``(1 - loss) x rate`` would be no ceiling. The
fate of packet ``n`` is a hash of (seed, direction, n, purpose), never of the time or of a generator's state, so the
same seed gives the same fates to a virtual and to a real-time run. Only the queue, and bursts that are measured in
time, know the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.batch import CE
from drivers.kernel import kernel
from vantun.wire.integers import int64

FRAME_OVERHEAD = 42
"""Ethernet, IPv4 and UDP headers: bytes of link time beside the UDP payload."""
_LOSS, _JITTER, _DUPLICATE, _DUPLICATE_JITTER, _BURST = range(5)
_APART = 1e-9
"""Seconds between two deliveries in order: equal times would be reordered by a heap."""


@dataclass(frozen=True)
class LinkProfile:
    """What a link does. Times in seconds, sizes in bytes.

    With ``burst`` or ``burst_time`` loss is Gilbert-Elliott (everything is lost in the bad state, the mean stays
    ``loss``); without, it is independent.
    """

    rate: float = 0.0
    """bit/s of Ethernet frames (UDP payload + FRAME_OVERHEAD); 0 = unlimited."""
    delay: float = 0.0
    loss: float = 0.0
    burst: float = 0.0
    """Mean length of a loss burst in packets; 0 = independent losses."""
    burst_time: float = 0.0
    """Mean length of a loss burst in seconds, which thin flows feel as busy ones do; 0 = not by time."""
    jitter: float = 0.0
    """Largest extra delay, uniform."""
    reorder: bool = False
    """Whether jitter may reorder."""
    duplicate: float = 0.0
    queue_bytes: int = 1 << 30
    mark: float = 0.0
    """Seconds of queue from which packets are marked as congested (ECN) if their sender can be told; 0 = never."""
    mtu: int = 1500
    """Bytes of the largest IPv4 packet; larger ones vanish, as behind a broken router."""

    def __post_init__(self) -> None:
        """Refuse what is no link."""
        for name in ("loss", "duplicate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a fraction from 0 to 1")
        for name in ("rate", "delay", "jitter", "burst", "burst_time", "queue_bytes", "mark", "mtu"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        if self.burst and self.burst_time:
            raise ValueError("burst and burst_time exclude each other; bursts are counted in packets or in time")

    @property
    def cut(self) -> LinkProfile:
        """The same link with everything lost."""
        return replace(self, loss=1.0, burst=0.0, burst_time=0.0)


link_dtype = np.dtype(
    [
        ("seed", "u8"),
        ("rate", "f8"),
        ("delay", "f8"),
        ("loss", "f8"),
        ("burst", "f8"),
        ("burst_time", "f8"),
        ("jitter", "f8"),
        ("reorder", "u1"),
        ("duplicate", "f8"),
        ("queue_bytes", "i8"),
        ("mark", "f8"),
        ("mtu", "i8"),
        # --- state
        ("index", "i8"),
        ("free_at", "f8"),  # when the last accepted packet has left the queue
        ("last_out", "f8"),
        ("bad", "u1"),
        ("turn_at", "f8"),  # when the burst state changes next, with burst_time
        ("turns", "i8"),
        # --- counters, packets
        ("packets", "i8"),
        ("lost", "i8"),
        ("tail_dropped", "i8"),
        ("too_big", "i8"),
        ("duplicated", "i8"),
        ("delivered", "i8"),
    ],
    align=True,
)


@kernel
def _draw(seed: int, index: int, purpose: int) -> float:
    """Return a uniform number in [0, 1): SplitMix64 (Steele, Lea, Flood 2014) over the packet's index and purpose."""
    x = np.uint64(seed) + (np.uint64(index) * np.uint64(8) + np.uint64(purpose + 1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.float64(x >> np.uint64(11)) * (1.0 / (1 << 53))


@kernel
def _is_lost(link: np.record, index: int, now: float) -> bool:
    """Draw the loss of packet ``index``; the burst state advances whether or not the packet survives the queue."""
    loss = link.loss
    if loss <= 0.0 or loss >= 1.0:
        return bool(loss >= 1.0)
    if link.burst > 0.0:
        leave = min(1.0, 1.0 / link.burst)
        enter = min(1.0, leave * loss / (1.0 - loss))
        draw = _draw(link.seed, index, _LOSS)
        if link.bad:
            link.bad = 0 if draw < leave else 1
        else:
            link.bad = 1 if draw < enter else 0
        return bool(link.bad)
    if link.burst_time > 0.0:
        while now >= link.turn_at:
            if link.turns > 0:
                link.bad ^= 1
            mean = link.burst_time if link.bad else link.burst_time * (1.0 - loss) / loss
            link.turn_at += -mean * np.log(1.0 - _draw(link.seed, int64(link.turns), _BURST))
            link.turns += 1
        return bool(link.bad)
    return bool(_draw(link.seed, index, _LOSS) < loss)


@kernel
def _delivery(link: np.record, index: int, leaves: float, purpose: int) -> float:
    time = leaves + link.delay
    if link.jitter > 0.0:
        time += link.jitter * _draw(link.seed, index, purpose)
    if not link.reorder:
        time = max(time, link.last_out + _APART)
        link.last_out = time
    return np.float64(time)


@kernel
def pass_packet(link: np.record, now: float, size: int, out: NDArray[np.float64]) -> int:
    """Put ``size`` bytes of UDP payload on the link at ``now``; write up to two delivery times and return how many."""
    index = int64(link.index)
    link.index += 1
    link.packets += 1
    lost = _is_lost(link, index, now)
    if size + 28 > link.mtu:
        link.too_big += 1
        return 0
    leaves = now
    if link.rate > 0.0:
        backlog = max(0.0, link.free_at - now) * link.rate / 8.0
        frame = size + FRAME_OVERHEAD
        if backlog + frame > link.queue_bytes:
            link.tail_dropped += 1
            return 0
        leaves = max(now, link.free_at) + frame * 8.0 / link.rate
        link.free_at = leaves
    if lost:
        link.lost += 1
        return 0
    out[0] = _delivery(link, index, leaves, _JITTER)
    link.delivered += 1
    if link.duplicate > 0.0 and _draw(link.seed, index, _DUPLICATE) < link.duplicate:
        out[1] = _delivery(link, index, leaves, _DUPLICATE_JITTER)
        link.duplicated += 1
        return 2
    return 1


@kernel
def _pass_one(links: NDArray[Any], now: float, size: int, out: NDArray[np.float64]) -> int:
    return pass_packet(links[0], now, size, out)


class Link:
    """One direction of a path; the same seed and direction give the same fates.

    Attributes
    ----------
    profile
        What the link does now.
    state
        [shape=(1,), dtype=link_dtype] for kernels that pass many packets (:func:`pass_packet`).
    """

    def __init__(self, profile: LinkProfile, seed: int, direction: int) -> None:
        self.state = np.zeros(1, link_dtype)
        # two links of neighbouring seeds must not share a sequence
        self.state[0]["seed"] = (seed * 2 + direction + 1) * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF
        self._out = np.zeros(2, np.float64)
        self.profile = profile
        self.set_profile(profile)

    def set_profile(self, profile: LinkProfile) -> None:
        """Change what the link does from the next packet on; packets on the way are not touched."""
        for name, value in asdict(profile).items():
            self.state[0][name] = value
        if not profile.burst and not profile.burst_time:
            self.state[0]["bad"] = 0
        self.profile = profile

    def send(self, now: float, size: int) -> Sequence[float]:
        """Put ``size`` bytes of UDP payload on the link; return when its copies arrive (none, one or two times)."""
        count = _pass_one(self.state, now, size, self._out)
        return self._out[:count].tolist()  # type: ignore[no-any-return]

    def marked(self, now: float, mark: int) -> int:
        """Return the ECN bits with which a packet leaves the queue that it joins at ``now``."""
        queue = float(self.state[0]["free_at"]) - now
        return CE if mark and 0.0 < self.profile.mark <= queue else mark

    def counters(self) -> dict[str, int]:
        """Return packets seen, lost, tail-dropped, too big, duplicated and delivered."""
        names = ("packets", "lost", "tail_dropped", "too_big", "duplicated", "delivered")
        return {name: int(self.state[0][name]) for name in names}
