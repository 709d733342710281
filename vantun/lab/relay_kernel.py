"""The loops over packets of the real-time link: fate and copy on the way in, a heap of due times on the way out.

Link row ``2 * path + direction`` is a direction of a path (0 = client to server); the fates are those of
:func:`vantun.lab.link.pass_packet`, so a packet fares as in virtual time. Everything is allocated once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.kernel import kernel
from vantun.lab.link import pass_packet

FOREVER = 1e300
"""Due time of nothing."""

_WAITING, _FREE, _ORDER = range(3)

tally_dtype = np.dtype(
    [
        ("bytes_in", "i8"),
        ("out", "i8"),
        ("bytes_out", "i8"),
        ("overflow", "i8"),  # no slot was free
        ("orphaned", "i8"),  # the client had left the table
        ("lag_sum", "f8"),
        ("lag_max", "f8"),
    ],
    align=True,
)
"""What the relay adds to a link's own counters; packets and seconds."""


class Flight(NamedTuple):
    """Packets on their way, each in a slot of its own; arrays are indexed by slot unless they say otherwise.

    Attributes
    ----------
    memory
        [shape=(slots, stride), dtype=uint8]
    due, order
        [dtype=float64, int64] delivery time in seconds, and the number that decides between equal times.
    length, link, client, epoch
        [dtype=int32 x 3, int64] bytes, row of the link, row of the client, and the client row's epoch on arrival.
    heap
        [shape=(slots,), dtype=int32] slots, earliest first.
    free
        [shape=(slots,), dtype=int32] a stack of empty slots.
    state
        [shape=(3,), dtype=int64] packets in the heap, slots on the stack, packets so far.
    epochs
        [shape=(clients,), dtype=int64] counts who had a client row before; not by slot.
    tally
        [shape=(links,), dtype=tally_dtype] by link row.
    next
        [shape=(1,), dtype=float64] when the earliest packet leaves, FOREVER if none is on its way.
    """

    memory: NDArray[np.uint8]
    due: NDArray[np.float64]
    order: NDArray[np.int64]
    length: NDArray[np.int32]
    link: NDArray[np.int32]
    client: NDArray[np.int32]
    epoch: NDArray[np.int64]
    heap: NDArray[np.int32]
    free: NDArray[np.int32]
    state: NDArray[np.int64]
    epochs: NDArray[np.int64]
    tally: NDArray[Any]
    next: NDArray[np.float64]


class Departure(NamedTuple):
    """Packets that leave together, grouped by socket.

    Attributes
    ----------
    slot
        [shape=(capacity,), dtype=int32] scratch: slots in the order of their due times.
    socket, first, packets
        [shape=(sockets,), dtype=int32] group ``g`` leaves by ``socket[g]``: ``packets[g]`` packets of the batch from
        ``first[g]`` on.
    group
        [shape=(sockets,), dtype=int32] scratch: group of each socket, -1 = none.
    """

    slot: NDArray[np.int32]
    socket: NDArray[np.int32]
    first: NDArray[np.int32]
    packets: NDArray[np.int32]
    group: NDArray[np.int32]


def flight(memory: NDArray[np.uint8], slots: int, links: int, clients: int) -> Flight:
    """Return an empty flight over ``memory``, [shape=(slots * stride,)]."""
    return Flight(
        memory=memory.reshape(slots, -1),
        due=np.zeros(slots, np.float64),
        order=np.zeros(slots, np.int64),
        length=np.zeros(slots, np.int32),
        link=np.zeros(slots, np.int32),
        client=np.zeros(slots, np.int32),
        epoch=np.zeros(slots, np.int64),
        heap=np.zeros(slots, np.int32),
        free=np.arange(slots - 1, -1, -1, dtype=np.int32),
        state=np.array([0, slots, 0], np.int64),
        epochs=np.zeros(clients, np.int64),
        tally=np.zeros(links, tally_dtype),
        next=np.full(1, FOREVER),
    )


def departure(capacity: int, sockets: int) -> Departure:
    """Return room for ``capacity`` packets that leave by ``sockets`` sockets."""
    return Departure(
        slot=np.zeros(capacity, np.int32),
        socket=np.zeros(sockets, np.int32),
        first=np.zeros(sockets, np.int32),
        packets=np.zeros(sockets, np.int32),
        group=np.full(sockets, -1, np.int32),
    )


@kernel
def _before(flight: Flight, left: int, right: int) -> bool:
    if flight.due[left] != flight.due[right]:
        return bool(flight.due[left] < flight.due[right])
    return bool(flight.order[left] < flight.order[right])


@kernel
def _push(flight: Flight, slot: int) -> None:
    at = flight.state[_WAITING]
    flight.state[_WAITING] += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not _before(flight, slot, flight.heap[parent]):
            break
        flight.heap[at] = flight.heap[parent]
        at = parent
    flight.heap[at] = slot


@kernel
def _pop(flight: Flight) -> int:
    """Take the earliest slot out of a heap that is not empty."""
    top = flight.heap[0]
    flight.state[_WAITING] -= 1
    size = flight.state[_WAITING]
    moved = flight.heap[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(flight, flight.heap[child + 1], flight.heap[child]):
            child += 1
        if not _before(flight, flight.heap[child], moved):
            break
        flight.heap[at] = flight.heap[child]
        at = child
    flight.heap[at] = moved
    return int(top)


@kernel
def _note_next(flight: Flight) -> None:
    flight.next[0] = flight.due[flight.heap[0]] if flight.state[_WAITING] > 0 else FOREVER


@kernel
def admit(
    batch: PacketBatch,
    count: int,
    row: int,
    clients: NDArray[np.int64],
    links: NDArray[Any],
    flight: Flight,
    now: float,
) -> None:
    """Pass ``count`` received packets over link ``row`` at ``now``; copy those that will arrive into slots.

    ``clients`` [shape=(messages, 2), dtype=int64] holds the client's row and epoch for each message of the batch.
    """
    due = np.zeros(2, np.float64)
    tally = flight.tally[row]
    for index in range(count):
        size = int(batch.length[index])
        tally.bytes_in += size
        copies = pass_packet(links[row], now, size, due)
        start = batch.offset[index]
        for copy in range(copies):
            if flight.state[_FREE] == 0 or size > flight.memory.shape[1]:
                tally.overflow += 1
                continue
            flight.state[_FREE] -= 1
            slot = flight.free[flight.state[_FREE]]
            flight.memory[slot, :size] = batch.memory[start : start + size]
            flight.due[slot] = due[copy]
            flight.order[slot] = flight.state[_ORDER]
            flight.state[_ORDER] += 1
            flight.length[slot] = size
            flight.link[slot] = row
            flight.client[slot] = clients[batch.peer[index], 0]
            flight.epoch[slot] = clients[batch.peer[index], 1]
            _push(flight, slot)
    _note_next(flight)


@kernel
def _take_due(flight: Flight, now: float, slots: NDArray[np.int32]) -> int:
    """Write due slots to ``slots`` in order and return how many; packets of a client that has left are dropped."""
    taken = 0
    while flight.state[_WAITING] > 0 and taken < slots.size and flight.due[flight.heap[0]] <= now:
        slot = _pop(flight)
        tally = flight.tally[flight.link[slot]]
        # freed before it is sent: nothing can be copied into it until the next admit()
        flight.free[flight.state[_FREE]] = slot
        flight.state[_FREE] += 1
        if flight.epochs[flight.client[slot]] != flight.epoch[slot]:
            tally.orphaned += 1
            continue
        lag = now - flight.due[slot]
        tally.lag_sum += lag
        tally.lag_max = max(tally.lag_max, lag)
        tally.out += 1
        tally.bytes_out += flight.length[slot]
        slots[taken] = slot
        taken += 1
    _note_next(flight)
    return taken


@kernel
def release(flight: Flight, departure: Departure, batch: PacketBatch, now: float) -> int:
    """Put what is due at ``now`` into ``batch``, grouped by socket and in order; return the number of groups.

    Towards the server packets leave by socket ``paths + client`` to the last address row (zeros: the socket is
    connected), towards the client by socket ``path`` to row ``client``.
    """
    taken = _take_due(flight, now, departure.slot)
    paths = flight.tally.size // 2
    nobody = batch.address.shape[0] - 1
    groups = 0
    for index in range(taken):
        slot = departure.slot[index]
        row = flight.link[slot]
        socket = row >> 1 if row & 1 else paths + flight.client[slot]
        group = departure.group[socket]
        if group < 0:
            group = departure.group[socket] = groups
            departure.socket[group] = socket
            departure.packets[group] = 0
            groups += 1
        departure.packets[group] += 1
    place = 0
    for group in range(groups):
        departure.first[group] = place
        place += departure.packets[group]
        departure.packets[group] = 0
    stride = np.int64(flight.memory.shape[1])
    for index in range(taken):
        slot = departure.slot[index]
        row = flight.link[slot]
        socket = row >> 1 if row & 1 else paths + flight.client[slot]
        group = departure.group[socket]
        at = departure.first[group] + departure.packets[group]
        departure.packets[group] += 1
        batch.offset[at] = slot * stride
        batch.length[at] = flight.length[slot]
        batch.peer[at] = flight.client[slot] if row & 1 else nobody
    for group in range(groups):
        departure.group[departure.socket[group]] = -1
    return groups


@kernel
def find_clients(
    batch: PacketBatch,
    count: int,
    path: int,
    table: NDArray[np.uint8],
    paths: NDArray[np.int64],
    found: NDArray[np.int64],
) -> int:
    """Write for each message of ``count`` packets the row of ``table`` with its source on ``path``, -1 if unknown.

    ``found`` has room for as many messages as the batch has packets. Return the messages.
    """
    messages = int(batch.peer[count - 1]) + 1
    for message in range(messages):
        found[message] = -1
        for row in range(paths.size):
            if paths[row] != path:
                continue
            same = True
            for index in range(table.shape[1]):
                if table[row, index] != batch.address[message, index]:
                    same = False
                    break
            if same:
                found[message] = row
                break
    return messages
