"""Turns of a worker without Python: wait, take in what arrived, write and read the TUN device, seal, send, rest.

A turn costs Python 100 us and more when its code is not in the processor's caches, whatever it moves; this is the fast
path of a router. It knows one thing only: datagrams of lanes that are packets of the TUN, and what that takes. Whatever
else there is to do (a command, a stream, a stranger's datagram, a lost shard, an engine that has to be asked, a refusal
by the kernel) ends it, at the place where it was met, and the loop in Python goes on from there
(:mod:`vantun.dataplane.fast_path`). The order within a turn is that of the loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.udp_kernel import SendBuffers
from drivers.linux.udp_lent import DESCRIPTOR, NUMBER, ReceiveBuffers, receive_lent, send_lent
from drivers.linux.wait_kernel import (
    EVENT_DESCRIPTOR,
    EVENT_FLAGS,
    monotonic,
    ready_events,
    rest,
    wait_events,
    watch_events,
)
from vantun.dataplane.steady_clock import GAP
from vantun.dataplane.tun_pump import EMPTY, MORE, read_tun, write_tun
from vantun.dataplane.tun_tables import IN, OK, OUT, TunTables
from vantun.dataplane.turn_kernels import DONE, Arriving, Leaving, arrive, depart
from vantun.dataplane.wake import PATIENT_FOR, REST, SPIN_FOR, TAKEN, is_alone, note_turn, note_ways
from vantun.session.flows import want_delivery
from vantun.session.limits import SHORT
from vantun.session.packets_in import packets_over, wake_packets
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
NOTHING_DONE = 1e-3
"""Least sleep after a turn without any effect, whatever the timers say."""
SOCKETS = 8
"""Sockets that can be lent: a path has one, and paths more than that are rare."""
_IN = 1

(READY, LEAPT, PAUSED, ARRIVED, REFUSED_RECEIVE, WANTED, READ_AWAY, LOST, DEPARTED, UNSENT) = range(10)
"""Why :func:`serve` ends. Before a turn: READY (other descriptors, or the time of something else), LEAPT (the clock),
PAUSED (rows are short). Within one: ARRIVED (datagrams to be looked at), REFUSED_RECEIVE, WANTED (events, lost shards,
a flow), READ_AWAY (packets for other workers), LOST (the device), DEPARTED (packets to be looked at), UNSENT."""

(
    EPOLL,
    SOCKET_COUNT,
    BASE,
    WAITING,
    TURNS,
    IDLE,
    EVENTS,
    GOT,
    GONE,
    SOCKET,
    AT,
    COUNT,
    STATUS,
    FIRST,
    ENDED,
    READ,
    WRITTEN,
    FAST_WORDS,
) = range(18)
"""Words of the state. Given: the epoll set, lent sockets, the address of the tables' memory. Both ways: whether
packets may wait in the device, turns made, how many of the last had no effect. Told: events that nobody has served;
packets that the present turn has received and sent; and where it was left: the lent socket, the first packet of the
batch in the last call of ``arrive`` and how many there are, and the numbers that ``arrive`` or ``depart`` returned.
Remembered: packets read of the device and written to it until the last turn."""
(PLANE_DUE, OTHER_DUE, LOST_TIME, LAST, MEANT, TURN_AT, AWAY, FAST_TIMES) = range(8)
"""Of the times: when the data plane and when anything else has something to do; what the clock has left out; its last
reading, how long the sleep after it was meant to be; when the present turn began, and for how long others had the core
before it."""
DELIVER, REFILL = range(2)
"""Lines of the counters."""


class FastPath(NamedTuple):
    """What :func:`serve` works on.

    Attributes
    ----------
    arriving, leaving
        Those of the stages.
    tun
        The TUN device.
    received, to_send
        Buffers of a socket, for all of them.
    sockets
        [shape=(SOCKETS, WORDS), dtype=int64] lent ones.
    state, times
        [shape=(FAST_WORDS,), dtype=int64], [shape=(FAST_TIMES,), dtype=float64].
    wake
        [shape=(WAKE_WORDS,), dtype=float64].
    events
        [shape=(MAX_EVENTS, EVENT_WORDS), dtype=int32].
    counters
        [shape=(2, 4), dtype=int64] of the stages deliver and refill.
    words
        [shape=(3,), dtype=int64] for calls of the C library.
    """

    arriving: Arriving
    leaving: Leaving
    tun: TunTables
    received: ReceiveBuffers
    to_send: SendBuffers
    sockets: NDArray[np.int64]
    state: NDArray[np.int64]
    times: NDArray[np.float64]
    wake: NDArray[np.float64]
    events: NDArray[np.int32]
    counters: NDArray[np.int64]
    words: NDArray[np.int64]


@kernel
def _now(f: FastPath) -> float:
    f.times[LAST] = monotonic(f.words)
    return float(f.times[LAST] - f.times[LOST_TIME])


@kernel
def _wait(f: FastPath) -> tuple[int, float]:
    """Rest, then sleep until a descriptor or a timer; return (events, seconds that others had the core meanwhile)."""
    if f.wake[REST] > 0.0:
        f.times[MEANT] = f.wake[REST]
        rest(f.words, f.wake[REST])
    due = f.times[PLANE_DUE]
    if f.wake[PATIENT_FOR] > 0.0:
        due = max(due, f.times[TURN_AT] + f.wake[PATIENT_FOR])
    due = min(due, f.times[OTHER_DUE])
    left = max(due - _now(f), NOTHING_DONE if f.state[IDLE] > 1 else 0.0)
    f.times[MEANT] = left
    away, epoll = 0.0, f.state[EPOLL]
    if f.wake[REST] > 0.0:
        found = ready_events(epoll, f.events)
        if found > 0:
            return found, away
    if f.wake[SPIN_FOR] > 0.0:
        before = f.times[LAST]
        found, away = watch_events(epoll, f.events, f.words, min(f.wake[SPIN_FOR], left), TAKEN)
        if found > 0:
            return found, away
        left = max(left - (monotonic(f.words) - before), 0.0)
    if left <= 0.0:
        return ready_events(epoll, f.events), away
    return wait_events(epoll, f.events, f.words, left), away


@kernel
def _lent_socket(f: FastPath, descriptor: int) -> int:
    for k in range(f.state[SOCKET_COUNT]):
        if f.sockets[k, DESCRIPTOR] == descriptor:
            return k
    return -1


@kernel
def _strange(f: FastPath, events: int) -> bool:
    """Return whether something is ready that is neither a lent socket nor the device, or not just readable."""
    device = int64(f.tun.root[0].state[0].descriptor)
    for i in range(events):
        descriptor = int64(f.events[i, EVENT_DESCRIPTOR])
        known = descriptor == device or _lent_socket(f, descriptor) >= 0
        if f.events[i, EVENT_FLAGS] != _IN or not known:
            return True
    return False


@kernel
def _slot_of(f: FastPath, flow: int) -> int:
    """Return the slot of the session whose TUN flow this is, -1 if it is another flow."""
    slots = f.tun.root[0].slot
    for slot in range(slots.size):
        if slots[slot].used and slots[slot].flow == flow:
            return slot
    return -1


@kernel
def _deliver(t: Tables, f: FastPath, now: float) -> int:
    """Write what waits for the device; return READY, WANTED (another flow, or the end of one), or LOST."""
    h = head(t)
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
            now = _now(f)
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
    """Read the device, seal and send until nothing is due; return READY, or why the turn is left."""
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
        if count < capacity and f.state[WAITING] == 0:
            return READY
        f.times[PLANE_DUE] = now
    return READY


@kernel
def _alone(f: FastPath, held: int, now: float) -> bool:
    """Tell whether packets go one way without any answer; ``held`` sessions have shards that wait for a lane."""
    count = f.tun.root[0].count
    note_ways(f.wake, count[OUT, OK] - f.state[READ], count[IN, OK] - f.state[WRITTEN], now)
    f.state[READ], f.state[WRITTEN] = count[OUT, OK], count[IN, OK]
    return bool(held == 0 and is_alone(f.wake, now))


@kernel
def serve(t: Tables, f: FastPath) -> int:
    """Make turns until one needs Python; return why (READY ... UNSENT), with the rest in ``f.state``."""
    h = head(t)
    while True:
        f.state[GOT], f.state[GONE], f.state[EVENTS] = 0, 0, 0
        f.times[AWAY] = 0.0
        if h.pool[0].rows_free * SHORT < h.pool[0].rows:
            f.times[MEANT] = 0.0
            return PAUSED
        before = f.times[LAST]
        events, away = _wait(f)
        now = _now(f)
        f.times[TURN_AT], f.times[AWAY] = now, away
        f.state[EVENTS] = events
        if f.times[LAST] - before > f.times[MEANT] + f.wake[REST] + GAP:
            f.times[MEANT] += f.wake[REST]
            f.times[LAST] = before
            return LEAPT
        if now >= f.times[OTHER_DUE] or _strange(f, events):
            return READY
        f.state[EVENTS] = 0
        for i in range(events):
            k = _lent_socket(f, int64(f.events[i, EVENT_DESCRIPTOR]))
            if k < 0:
                f.state[WAITING] = 1
        for i in range(events):
            k = _lent_socket(f, int64(f.events[i, EVENT_DESCRIPTOR]))
            if k >= 0:
                result = _receive(t, f, k)
                if result != READY:
                    return result
        # A RECEIPT that is due since a packet has arrived would be due later than a turn that began before it: turns
        # that bring enough for one each would never send any (seen: blocks were given up as unanswered).
        f.times[TURN_AT] = _now(f)
        result = _transmit(t, f, float(f.times[TURN_AT]))
        if result != READY:
            return result
        busy = events > 0 or f.state[GONE] > 0
        note_turn(f.wake, (f.state[GOT], f.state[GONE]), now, busy, _now(f) - now, away, _alone(f, h.pool[0].held, now))
        f.state[IDLE] = 0 if busy else f.state[IDLE] + 1
        f.state[TURNS] += 1
