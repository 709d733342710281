"""Turns of a worker without Python: wait, take in what arrived, write and read TUN and streams, seal, send, rest.

A turn costs Python 100 us and more when its code is not in the processor's caches, whatever it moves; this is the fast
path of a router, and of a proxy. It knows two things only: datagrams of lanes that are packets of the TUN, and bytes of
streams whose sockets are lent, and what these take. Whatever else there is to do (a command, a stream's beginning or
end, a stranger's datagram, a lost shard, an engine that has to be asked, a refusal by the kernel) ends it, at the place
where it was met, and the loop in Python goes on from there (:mod:`vantun.dataplane.fast_path`). The order within a turn
is that of the loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.udp_lent import DESCRIPTOR, NUMBER, receive_lent, send_lent
from drivers.linux.wait_kernel import EVENT_DESCRIPTOR, EVENT_FLAGS, monotonic
from vantun.dataplane.fast_state import (
    ARRIVED,
    AT,
    AWAY,
    BASE,
    COUNT,
    DELIVER,
    DEPARTED,
    DEVICE,
    ENDED,
    EVENTS,
    FIRST,
    GONE,
    GOT,
    IDLE,
    LAST,
    LEAPT,
    LOST,
    MEANT,
    OTHER_DUE,
    PAUSED,
    PLANE_DUE,
    READ,
    READ_AWAY,
    READY,
    REFILL,
    REFUSED_RECEIVE,
    SOCKET,
    SOCKET_COUNT,
    STATUS,
    STREAMED,
    TURN_AT,
    TURNS,
    UNSENT,
    WAITING,
    WANTED,
    WRITTEN,
    FastPath,
)
from vantun.dataplane.fast_wait import await_events, tell_time
from vantun.dataplane.steady_clock import GAP
from vantun.dataplane.stream_kernels import drain_streams, fill_streams
from vantun.dataplane.tun_pump import EMPTY, MORE, read_tun, write_tun
from vantun.dataplane.tun_tables import IN, OK, OUT
from vantun.dataplane.turn_kernels import DONE, arrive, depart
from vantun.dataplane.wake import IN_AT, OUT_AT, REST, is_alone, note_turn, note_ways
from vantun.session.flows import want_delivery
from vantun.session.limits import SHORT
from vantun.session.packets_in import packets_over, wake_packets
from vantun.session.streams import lent_stream, want_refill
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64

BATCHES = 8
"""Sealed batches sent per turn."""
ROUNDS = 4
"""Batches received per socket and turn: flows and control get their turn under a flood, too."""
DRAINED = 16
"""A batch of fewer packets has emptied the socket: a call takes at least 16 messages."""
TUN_ROUNDS = 2
"""Batches read of the TUN device per turn: sessions, streams and commands get theirs under a flood, too."""
_IN, _OUT = 1, 4


@kernel
def _lent_socket(f: FastPath, descriptor: int) -> int:
    for k in range(f.state[SOCKET_COUNT]):
        if f.sockets[k, DESCRIPTOR] == descriptor:
            return k
    return -1


@kernel
def _strange(t: Tables, f: FastPath, events: int) -> bool:
    """Return whether something is ready that is no lent socket, nor the device, or whose end or failure is near."""
    for i in range(events):
        descriptor, flags = int64(f.events[i, EVENT_DESCRIPTOR]), int64(f.events[i, EVENT_FLAGS])
        if descriptor == f.state[DEVICE] or _lent_socket(f, descriptor) >= 0:
            if flags != _IN:
                return True
        elif flags & ~(_IN | _OUT) or lent_stream(t, descriptor) < 0:
            return True
    return False


@kernel
def _look(t: Tables, f: FastPath, events: int) -> None:
    """Note what is ready of the device and of streams."""
    for i in range(events):
        descriptor, flags = int64(f.events[i, EVENT_DESCRIPTOR]), int64(f.events[i, EVENT_FLAGS])
        flow = lent_stream(t, descriptor)
        if descriptor == f.state[DEVICE]:
            f.state[WAITING] = 1
        elif flow >= 0:
            f.state[STREAMED] = 1
            if flags & _IN:
                want_refill(t, flow)
            if flags & _OUT and not t.flow[flow].writable:
                t.flow[flow].writable = 1
                want_delivery(t, flow)


@kernel
def _slot_of(f: FastPath, flow: int) -> int:
    """Return the slot of the session whose TUN flow this is, -1 if it is another flow."""
    slots = f.tun.root[0].slot
    for slot in range(slots.size):
        if slots[slot].used and slots[slot].flow == flow:
            return slot
    return -1


@kernel
def _drain(h: Tables, f: FastPath, now: float) -> None:
    """Write what waits for the sockets of streams."""
    begun, before = monotonic(f.words), int64(h.pool[0].delivers)
    size = drain_streams(h, f.streams, f.state[BASE], now)
    if size > 0:
        f.state[STREAMED] = 1
    if h.pool[0].delivers < before:
        _count(f.counters[DELIVER], before - int64(h.pool[0].delivers), size, begun, monotonic(f.words))


@kernel
def _fill(h: Tables, f: FastPath, now: float) -> int:
    """Read the sockets of streams; return READY, or WANTED when one has ended."""
    begun = monotonic(f.words)
    size = fill_streams(h, f.streams, f.state[BASE], now)
    f.state[STREAMED] = 1
    _count(f.counters[REFILL], 0, size, begun, monotonic(f.words))
    return WANTED if h.pool[0].events > 0 else READY


@kernel
def _deliver(t: Tables, f: FastPath, now: float) -> int:
    """Write what waits for streams and the device; return READY, WANTED (another flow, or the end of one), or LOST."""
    h = head(t)
    if h.pool[0].delivers > 0 and h.pool[0].lent > 0:
        _drain(h, f, now)
        if h.pool[0].events > 0:
            return WANTED
    count = int64(h.pool[0].delivers)
    if count == 0:
        return READY
    for i in range(count):
        if _slot_of(f, int64(h.deliver[i])) < 0:
            return WANTED
    begun = monotonic(f.words)
    h.pool[0].delivers = 0
    flows = np.empty(count, np.int64)
    for i in range(count):
        flows[i] = h.deliver[i]
    total = 0
    result = READY
    for i in range(count):
        flow = flows[i]
        h.flow[flow].deliver = 0
        if not h.flow[flow].used:
            continue
        status = MORE
        while status == MORE:
            status, size = write_tun(t, f.tun, _slot_of(f, flow), flow, f.state[BASE], now)
            total += size
        if status < 0:
            f.state[STATUS] = status
            result = LOST
            want_delivery(t, flow)
        if packets_over(t, flow, now):
            want_delivery(t, flow)
            result = WANTED if result == READY else result
    if total > 0:  # the kernel itself may have answered what was just written to it
        f.state[WAITING] = 1
    _count(f.counters[DELIVER], count, total, begun, monotonic(f.words))
    return result


@kernel
def _count(line: NDArray[np.int64], packets: int, size: int, begun: float, ended: float) -> None:
    line[0] += 1
    line[1] += packets
    line[2] += size
    line[3] += int64((ended - begun) * 1e9)


@kernel
def _receive(t: Tables, f: FastPath, k: int) -> int:
    """Take in what waits in a lent socket; return READY, or why the turn is left."""
    h = head(t)
    capacity = f.arriving.arrivals.miss.size
    batch = f.received.batch
    f.state[SOCKET] = k
    for _ in range(ROUNDS):
        count = receive_lent(f.sockets[k], f.received)
        if count < 0:
            f.state[STATUS] = count
            return REFUSED_RECEIVE
        f.state[GOT] += count
        f.state[COUNT] = count
        first = 0
        while first < count:
            now = tell_time(f)
            f.state[AT] = first
            status, ours, misses = arrive(t, f.arriving, batch, first, min(count - first, capacity), now)
            if status != DONE or misses > 0 or h.pool[0].events > 0:
                f.state[STATUS], f.state[FIRST], f.state[ENDED] = status, ours, misses
                return ARRIVED
            result = _deliver(t, f, now)
            if result != READY and first + capacity >= count:
                return result
            if result != READY:
                f.state[STATUS], f.state[FIRST], f.state[ENDED] = DONE, 0, 0
                return ARRIVED
            first += capacity
        if count < DRAINED:
            break
    return READY


@kernel
def _read(t: Tables, f: FastPath, now: float) -> int:
    """Read the device; return READY, or why the turn is left."""
    begun = monotonic(f.words)
    status = MORE
    for _ in range(TUN_ROUNDS):
        status, _size = read_tun(t, f.tun, now)
        if f.tun.root[0].state[0].away > 0:
            return READ_AWAY
        if status != MORE:
            break
    if status < 0:
        f.state[STATUS] = status
        return LOST
    f.state[WAITING] = 0 if status == EMPTY else 1
    _count(f.counters[REFILL], 0, 0, begun, monotonic(f.words))
    return READY


@kernel
def _send(f: FastPath, count: int) -> int:
    """Send the first ``count`` sealed packets; return how many were taken."""
    sockets = f.leaving.sealed.socket
    first = 0
    while first < count:
        end = first + 1
        while end < count and sockets[end] == sockets[first]:
            end += 1
        k = 0
        while k < f.state[SOCKET_COUNT] and f.sockets[k, NUMBER] != sockets[first]:
            k += 1
        if k == f.state[SOCKET_COUNT]:
            break
        taken = send_lent(f.sockets[k], f.leaving.batch, f.to_send, first, end)
        first = taken
        if taken < end:
            break
    return first


@kernel
def _transmit(t: Tables, f: FastPath, now: float) -> int:
    """Read the device and streams, seal and send until nothing is due; return READY, or why the turn is left."""
    h = head(t)
    capacity = f.leaving.departures.length.size
    f.leaving.departures.now[1] = f.wake[REST]
    for _ in range(BATCHES):
        if h.pool[0].decodes > 0 or h.pool[0].events > 0:
            return WANTED
        if h.pool[0].hold_due <= now:
            wake_packets(t, now)
        result = _deliver(t, f, now)
        if result == READY and f.state[WAITING] > 0:
            result = _read(t, f, now)
        if result == READY and h.pool[0].refills > 0:
            result = _fill(h, f, now)
        if result != READY:
            return result
        status, first, count, due = depart(t, f.leaving, 0, now)
        f.times[PLANE_DUE] = min(due, h.pool[0].hold_due)
        if status != DONE or h.pool[0].events > 0:
            f.state[STATUS], f.state[FIRST], f.state[ENDED] = status, first, count
            return DEPARTED
        if count == 0:
            return READY
        taken = _send(f, count)
        f.state[GONE] += taken
        if taken < count:
            f.state[FIRST], f.state[ENDED] = taken, count
            return UNSENT
        if count < capacity and f.state[WAITING] == 0 and h.pool[0].refills == 0:
            return READY
        f.times[PLANE_DUE] = now
    return READY


@kernel
def _alone(f: FastPath, held: int, now: float) -> bool:
    """Tell whether packets go one way without any answer; ``held`` sessions have shards that wait for a lane.

    Whether anybody waits for an answer to what a stream carries is not known.
    """
    if f.state[STREAMED] or f.state[DEVICE] < 0:
        f.wake[OUT_AT] = f.wake[IN_AT] = now
    count = f.tun.root[0].count
    note_ways(f.wake, count[OUT, OK] - f.state[READ], count[IN, OK] - f.state[WRITTEN], now)
    f.state[READ], f.state[WRITTEN] = count[OUT, OK], count[IN, OK]
    return bool(held == 0 and is_alone(f.wake, now))


@kernel
def serve(t: Tables, f: FastPath) -> int:
    """Make turns until one needs Python; return why (READY ... UNSENT), with the rest in ``f.state``."""
    h = head(t)
    while True:
        f.state[GOT], f.state[GONE], f.state[EVENTS], f.state[STREAMED] = 0, 0, 0, 0
        f.times[AWAY] = 0.0
        if h.pool[0].rows_free * SHORT < h.pool[0].rows:
            f.times[MEANT] = 0.0
            return PAUSED
        before = f.times[LAST]
        events, away = await_events(f)
        now = tell_time(f)
        f.times[TURN_AT], f.times[AWAY] = now, away
        f.state[EVENTS] = events
        if f.times[LAST] - before > f.times[MEANT] + f.wake[REST] + GAP:
            f.times[MEANT] += f.wake[REST]
            f.times[LAST] = before
            return LEAPT
        if now >= f.times[OTHER_DUE] or _strange(h, f, events):
            return READY
        f.state[EVENTS] = 0
        _look(h, f, events)
        for i in range(events):
            k = _lent_socket(f, int64(f.events[i, EVENT_DESCRIPTOR]))
            if k >= 0:
                result = _receive(t, f, k)
                if result != READY:
                    return result
        # A RECEIPT that is due since a packet has arrived would be due later than a turn that began before it: turns
        # that bring enough for one each would never send any (seen: blocks were given up as unanswered).
        f.times[TURN_AT] = tell_time(f)
        result = _transmit(t, f, float(f.times[TURN_AT]))
        if result != READY:
            return result
        busy = events > 0 or f.state[GONE] > 0
        alone = _alone(f, int64(h.pool[0].held), now)
        note_turn(f.wake, (f.state[GOT], f.state[GONE]), now, busy, tell_time(f) - now, away, alone)
        f.state[IDLE] = 0 if busy else f.state[IDLE] + 1
        f.state[TURNS] += 1
