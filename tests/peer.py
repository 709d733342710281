"""A peer that has the right keys and writes its packets by hand: after docs/protocol.md, without vantun's codecs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from accel.aead.cryptography import CryptographyAead
from accel.engine import OpenJob, Operation, SealJob, Suite
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import SessionViolated
from vantun.dataplane.pipeline import Dataplane
from vantun.lab.endpoint import Endpoint
from vantun.lab.network import SESSION, lab_engines
from vantun.lanes import LaneSpec
from vantun.session.keys import Ratchet
from vantun.session.limits import Limits

SMALL = DataplaneConfig(limits=Limits(sessions=4, flows=64, rows=512, flows_per_session=16))
CID = b"\0handmad"
ANSWER_CID = b"\0answers"
SECRETS = bytes(range(32)), bytes(range(32, 64))
CONTROL, INTERACTIVE, BULK, PACKETS = range(4)


def varint(value: int, size: int = 0) -> bytes:
    """Return RFC 9000's integer, in ``size`` bytes if given."""
    size = size or (1 if value < 1 << 6 else 2 if value < 1 << 14 else 4 if value < 1 << 30 else 8)
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of ``data``, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unit(area: bytes) -> bytes:
    """Return what FEC protects: length, records, CRC."""
    body = len(area).to_bytes(2, "big") + area
    return body + crc32c(body).to_bytes(4, "big")


def data(channel: int, number: int, area: bytes, k: int = 0) -> bytes:
    """Return a DATA frame."""
    return bytes([0x08, channel]) + (number & 0xFFFFFFFF).to_bytes(4, "big") + bytes([k, 0]) + unit(area)


def parity(channel: int, first: int, k: int, row: int, payload: bytes) -> bytes:
    """Return a PARITY frame."""
    return bytes([0x09, channel]) + (first & 0xFFFFFFFF).to_bytes(4, "big") + bytes([k, row]) + payload


def _product(a: int, b: int) -> int:
    result = 0
    while b:
        result ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return result


@cache
def _multiples(row: int, column: int) -> NDArray[np.uint8]:
    """Return C[row][column] times every byte; the quotient is found by trying."""
    divisor = (128 + row) ^ column
    inverse = next(value for value in range(1, 256) if _product(divisor, value) == 1)
    coefficient = _product(128 ^ column, inverse)
    return np.array([_product(coefficient, value) for value in range(256)], np.uint8)


def code_row(row: int, units: list[bytes]) -> bytes:
    """Return parity ``row`` of code 1 over ``units``: the sum of C[i][j] times unit j."""
    total = np.zeros(max(map(len, units)), np.uint8)
    for j, one in enumerate(units):
        total[: len(one)] ^= _multiples(row, j)[np.frombuffer(one, np.uint8)]
    return total.tobytes()


def receipt(
    ranges: list[tuple[int, int]], path: int = 1, delay: int = 0, credits: bytes = b"\0", marks: bytes = bytes(3)
) -> bytes:
    """Return a RECEIPT for (low, high) ranges, newest first; ``credits`` and ``marks`` as on the wire."""
    frame = b"\x03" + varint(path) + varint(ranges[0][1]) + varint(delay) + marks + varint(len(ranges))
    below = None
    for low, high in ranges:
        if below is not None:
            frame += varint(below - high - 2)
        frame += varint(high - low)
        below = low
    return frame + credits


def stream(flow: int, offset: int, payload: bytes, *, counted: bool = True) -> bytes:
    """Return a STREAM record, by default with a length, so that another may follow."""
    if not counted:
        return b"\x10" + varint(flow) + varint(offset) + payload
    return b"\x11" + varint(flow) + varint(offset) + varint(len(payload)) + payload


def packets(flow: int, offset: int, first: int, payload: bytes, *, counted: bool = True) -> bytes:
    """Return a PACKETS record, by default with a length, so that another may follow."""
    head = varint(flow) + varint(offset) + varint(first)
    return b"\x21" + head + varint(len(payload)) + payload if counted else b"\x20" + head + payload


def body(payload: bytes) -> bytes:
    """Return a packet as it stands in the stream of a packet flow."""
    return len(payload).to_bytes(4, "big") + payload


def open_record(flow: int, target: bytes = b"a:1") -> bytes:
    """Return an OPEN record."""
    return b"\x01" + varint(flow) + varint(len(target)) + target


def pair(kind: int, flow: int, value: int) -> bytes:
    """Return a FIN (3), RESET (4), STOP (5), CREDIT (6) or ABANDON (8) record."""
    return bytes([kind]) + varint(flow) + varint(value)


@dataclass(frozen=True)
class Pool:
    """Free places of a data plane; equal before and after when nothing leaks."""

    rows: int
    spans: int
    flows: int


class Peer:
    """One end made by hand, in front of a real endpoint.

    Attributes
    ----------
    end
        The endpoint under test: the server of the session, unless ``client``.
    """

    def __init__(self, config: DataplaneConfig = SMALL, *, client: bool = False) -> None:
        self.end = Endpoint(Dataplane(config, lab_engines()))
        self.empty = self.pool()
        self.now = 1.0
        self.next = 0
        self.join(client=client)

    def join(
        self,
        session: int = SESSION,
        path: int = 1,
        address: tuple[str, int] = ("127.0.0.1", 1000),
        user: str = "",
        *,
        client: bool = False,
    ) -> None:
        """Have the endpoint begin the session of this peer."""
        self.session = session
        self.end.plane.add_lane(
            LaneSpec(
                session=session,
                path=path,
                socket=path,
                peer=address,
                receive_cid=CID,
                send_cid=ANSWER_CID,
                suite=Suite.AES_128_GCM,
                send_secret=SECRETS[1],
                receive_secret=SECRETS[0],
                client=client,
                user=user,
            ),
            self.now,
        )
        aead = CryptographyAead()
        self._aead, self._seal, self._open = aead, aead.open(Operation.AEAD_SEAL), aead.open(Operation.AEAD_OPEN)
        for opened, secret in ((self._seal, SECRETS[0]), (self._open, SECRETS[1])):
            ratchet = Ratchet(secret, Suite.AES_128_GCM)
            opened.install_key(0, ratchet.current)
            opened.install_key(1, ratchet.following)

    def pool(self) -> Pool:
        """Return what is free."""
        pool = self.end.plane.context.tables.pool[0]
        return Pool(int(pool["rows_free"]), int(pool["spans_free"]), int(pool["flows_free"]))

    def packet(self, frames: bytes, number: int | None = None, phase: int = 0) -> bytes:
        """Return a sealed packet; without ``number`` it is the next one."""
        if number is None:
            number, self.next = self.next, self.next + 1
        frames = frames.ljust(4, b"\0")  # PADDING, so that there is enough to be sampled
        head = bytes([0x43 | phase << 2]) + CID + (number & 0xFFFFFFFF).to_bytes(4, "big")
        source = np.frombuffer(head + frames, np.uint8)
        target = np.zeros(len(source) + 16, np.uint8)
        job = SealJob(
            source, np.zeros(1, np.int64), np.array([len(source)], np.int32), target, np.zeros(1, np.int64),
            np.zeros(1, np.int32), np.array([number], np.int64), np.zeros(1, np.int8),
        )  # fmt: skip
        self._aead.submit(self._seal, job)
        assert job.status[0] == 1
        return target.tobytes()

    def unseal(self, datagram: bytes, largest: int = -1) -> tuple[int, bytes]:
        """Return (packet number, frames) of a packet that the endpoint sent."""
        source = np.frombuffer(datagram, np.uint8)
        target = np.zeros(len(source), np.uint8)
        job = OpenJob(
            source, np.zeros(1, np.int64), np.array([len(source)], np.int32), target, np.zeros(1, np.int64),
            np.zeros(1, np.int32), np.array([largest], np.int64), np.zeros(1, np.int8),
        )  # fmt: skip
        self._aead.submit(self._open, job)
        assert job.status[0] == 1, "the endpoint sent a packet that its peer cannot open"
        return int(job.number[0]), target[13 : len(source) - 16].tobytes()

    def send(self, *packets: bytes) -> None:
        """Let the endpoint receive packets, each the frames of one, in one batch."""
        for frames in packets:
            self.end.arrive(self.packet(frames), self.now)
        self.end.run(self.now)

    def depart(self, after: float = 0.0) -> list[bytes]:
        """Let time pass; return the frames of every packet that the endpoint sends then."""
        self.now += after
        return [self.unseal(datagram)[1] for _, datagram in self.end.depart(self.now)]

    @property
    def violations(self) -> list[str]:
        """Reasons for which the session is to be ended."""
        return [event.reason for event in self.end.events if isinstance(event, SessionViolated)]

    def drops(self) -> dict[str, int]:
        """Return the drops that were counted, without zeros."""
        drops = self.end.plane.snapshot()["drops"]
        assert isinstance(drops, dict)
        return {name: count for name, count in drops.items() if count}

    def end_session(self) -> Pool:
        """End the session; return what is free then."""
        self.end.plane.end_session(self.session, self.now)
        return self.pool()
