"""A transfer between two data planes in memory, so that every kernel is loaded, or compiled, before a worker serves.

numba loads a kernel when it is called first: 20 ms from its cache, seconds without. A worker that did this while it
served would drop what arrives meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from accel.engine import Suite
from drivers.arena import Arena
from drivers.batch import packet_batch
from drivers.kernel_calls import forget_arguments
from drivers.linux.probe import probe_udp
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.context import Engines
from vantun.dataplane.events import FlowOpened
from vantun.dataplane.fast_path import warm_fast
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.ports import WOULD_BLOCK, RefusalCode
from vantun.dataplane.tun_port import warm_tun
from vantun.dataplane.udp_warm import warm_udp
from vantun.dataplane.worker_engines import close_engines
from vantun.lanes import LaneSpec
from vantun.session.coding import discard_rebuilt, make_spans
from vantun.session.limits import Limits
from vantun.session.recovery import trust_lane
from vantun.session.restart import forget_in_flight
from vantun.session.span_store import abandon_block

_SESSION = 1
_SIZE = 600_000
_CAPACITY = 512
_SLOT = 1536
_STEPS = 4000
_STEP = 0.001
_LOSE_EVERY = 9


@dataclass
class _Stream:
    """A port with ``left`` zeros to be read, which swallows what is written."""

    left: int
    was_accepted: bool = False
    ended: bool = False
    taken: int = 0

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        total = 0
        for address, size in iov[:count].tolist():
            part = min(size, self.left)
            ctypes.memset(address, 0, part)
            self.left -= part
            total += part
        return total

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        size = int(iov[:count, 1].sum())
        self.taken += size
        return size or WOULD_BLOCK

    def accepted(self) -> None:
        self.was_accepted = True

    def refused(self, code: int) -> None:
        self.ended = True

    def shutdown_write(self) -> None:
        self.ended = True

    def reset(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True


@dataclass
class _Packets:
    """A port of a packet flow that has no packets; ports that have some warm their own kernels."""

    handle: int = -1
    ended: bool = False

    def fill(self, now: float) -> None:
        """See PacketPort."""

    def drain(self, flow_index: int, now: float) -> int:
        return 0

    def accepted(self) -> None:
        """See Port."""

    def refused(self, code: int) -> None:
        self.ended = True

    def reset(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True


@dataclass
class _Rehearsal:
    """Two planes and the packets between them."""

    planes: tuple[Dataplane, Dataplane]
    now: float = 0.0
    sent: int = 0
    far: list[_Stream | _Packets] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arena = Arena(_CAPACITY, _SLOT)
        self.batch = packet_batch(self.arena.memory, _CAPACITY, np.zeros((1, 28), np.uint8))

    def step(self) -> None:
        """Let a millisecond pass, and lose every ninth packet on its way."""
        self.now += _STEP
        for source, target in (self.planes, self.planes[::-1]):
            while True:
                outgoing = source.transmit(self.now)
                if not outgoing.packets:
                    break
                count = 0
                for i in range(outgoing.packets):
                    self.sent += 1
                    if self.sent % _LOSE_EVERY:
                        start, size = int(outgoing.batch.offset[i]), int(outgoing.batch.length[i])
                        self.batch.offset[count] = count * _SLOT
                        self.batch.length[count] = size
                        place = count * _SLOT
                        self.batch.memory[place : place + size] = outgoing.batch.memory[start : start + size]
                        count += 1
                target.receive(self.batch, count, 0, self.now)
            self._serve(target)

    def _serve(self, plane: Dataplane) -> None:
        for event in plane.take_events():
            if isinstance(event, FlowOpened):
                if event.target.startswith("no"):
                    plane.refuse_flow(event.handle, RefusalCode.REFUSED, self.now)
                    continue
                stream = _Packets() if event.target.startswith("udp:") else _Stream(_SIZE)
                self.far.append(stream)
                plane.attach_flow(event.handle, stream, self.now)

    def until(self, done: Callable[[], bool]) -> None:
        """Make steps until ``done``, but not for ever: what does not come to its end has run its kernels by then."""
        for _ in range(_STEPS):
            if done():
                return
            self.step()


def _lane(path: int, *, client: bool) -> LaneSpec:
    names = bytes([0]) * 7 + bytes([path]), bytes([0]) * 7 + bytes([path + 100])
    secrets = bytes([path]) * 32, bytes([path + 100]) * 32
    spec = LaneSpec(
        session=_SESSION,
        path=path,
        socket=path,
        peer=("127.0.0.1", 9),
        receive_cid=names[0],
        send_cid=names[1],
        suite=Suite.AES_128_GCM,
        send_secret=secrets[0],
        receive_secret=secrets[1],
        client=client,
        mtu=1200 + 100 * path,
    )
    if client:
        return spec
    return replace(spec, receive_cid=names[1], send_cid=names[0], send_secret=secrets[1], receive_secret=secrets[0])


def warm(engines: Callable[[], Engines]) -> None:
    """Send, lose, repair, refuse, reset, change keys and paths, with fresh ``engines`` for either end."""
    probe_udp()
    limits = Limits(sessions=1, flows=16, rows=4096, flows_per_session=16)
    config = DataplaneConfig(limits=limits, rekey_after=128, keepalive=0.5)
    both = engines(), engines()
    stage = _Rehearsal((Dataplane(config, both[0]), Dataplane(config, both[1])))
    client, _ = stage.planes
    for path in (1, 0):
        for plane in stage.planes:
            plane.add_lane(_lane(path, client=plane is client), stage.now)
    near = _Stream(_SIZE)
    client.open_flow(_SESSION, "yes:1", near, stage.now)
    refused = _Stream(10)
    client.open_flow(_SESSION, "no:1", refused, stage.now)
    stage.until(lambda: near.taken > _SIZE // 2 and refused.ended)
    client.refused_for_size(0, 1 << 16, stage.now)
    packets = client.open_flow(_SESSION, "udp:", _Packets(), stage.now)
    stage.until(lambda: len(stage.far) > 1)
    client.end_packets(packets, stage.now)
    client.close_lane(_SESSION, 1, stage.now)
    broken = _Stream(_SIZE)
    handle = client.open_flow(_SESSION, "yes:2", broken, stage.now)
    stage.until(lambda: near.ended and broken.was_accepted)
    client.readable(handle)
    client.writable(handle)
    client.broken(handle, stage.now)
    stage.until(lambda: all(stream.ended for stream in stage.far))
    warm_tun(client)
    warm_udp(client.context)
    warm_fast(client)
    for plane in stage.planes:
        _rare(plane, stage.now)
        plane.rehearse(stage.batch, stage.now)
    for plane, opened in zip(stage.planes, both, strict=True):
        plane.end_session(_SESSION, stage.now)
        plane.snapshot()
        close_engines(opened)
        plane.close()  # engines know the jobs that they did, and so the tables: 5 MB each that nobody needs again
    forget_arguments()


def _rare(plane: Dataplane, now: float) -> None:
    """Call what a rehearsal without faults does not come to; the session ends afterwards."""
    root = plane.context.tables.root
    forget_in_flight(root, 0)
    trust_lane(root, 0, 0.05, now)
    abandon_block(root, 0, 0)
    discard_rebuilt(root, make_spans(1, 1), 0)


def main() -> None:
    """Compile or load every kernel with the engines that this machine would choose."""
    from accel.device.rehearsal import rehearse_device
    from accel.service.rehearsal import rehearse_ring
    from vantun.config_accel import AccelConfig
    from vantun.dataplane.worker_engines import choose_engines, open_engines

    rehearse_ring()  # no worker that uses a GPU service, or a device, shall compile for it
    rehearse_device()
    chosen = choose_engines(AccelConfig())
    warm(lambda: open_engines(chosen))
