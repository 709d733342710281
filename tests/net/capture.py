"""What really leaves and arrives: every UDP payload of a namespace, read by a packet socket."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType

from tests.netns import inside

_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_SOL_PACKET, _PACKET_VNET_HDR, _SO_RCVBUFFORCE = 263, 15, 33
_GSO_NONE, _GSO_UDP_L4 = 0, 5
_HEAD = struct.Struct("<BBHHHH")
"""struct virtio_net_hdr: flags, kind of segmentation, header bytes, segment size, checksum start and offset."""
_BUFFER = 1 << 26
_BUSY = 1000
"""Datagrams that make a connection id that of a lane under load."""


class Capture:
    """Reads all IPv4 UDP datagrams of one port, in a thread; used as a context.

    Attributes
    ----------
    datagrams
        How many were seen.
    """

    def __init__(self, namespace: str, port: int) -> None:
        self.datagrams = 0
        self._by_cid: dict[bytes, list[int]] = {}
        self._seen: set[int] = set()
        self._port = port
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.settimeout(0.2)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                data = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            self.take(data)

    @property
    def repeated(self) -> int:
        """How many datagrams of busy connection ids were seen before, byte for byte.

        The control connection's QUIC is left out: for a second after the Welcome the server sends everything twice, so
        that it arrives (docs/protocol.md, "Lossy paths"). A client whose lane falls silent, because a worker has died,
        pings at once, and the acknowledgement, 33 bytes, goes twice if that second is not over.
        """
        return sum(again for count, again in self._by_cid.values() if count >= _BUSY)

    def take(self, data: bytes) -> None:
        """Count a frame, which the kernel has perhaps merged of several datagrams."""
        _, merged, _, segment, _, _ = _HEAD.unpack_from(data)
        frame = data[_HEAD.size :]
        if len(frame) < 42 or frame[12:14] != _ETH_P_IP.to_bytes(2, "big") or frame[23] != socket.IPPROTO_UDP:
            return
        start = 14 + 4 * (frame[14] & 15)
        source, target, size = struct.unpack_from("!HHH", frame, start)
        if self._port not in (source, target):
            return
        assert merged in (_GSO_NONE, _GSO_UDP_L4), f"segmentation of kind {merged}"
        end = start + size if merged == _GSO_NONE else len(frame)
        step = segment if merged else max(size, 1)
        for first in range(start + 8, end, step):
            self._note(frame[first : min(first + step, end)])

    def _note(self, payload: bytes) -> None:
        number = hash(payload)
        self.datagrams += 1
        counts = self._by_cid.setdefault(payload[1:9], [0, 0])
        counts[0] += 1
        counts[1] += number in self._seen
        self._seen.add(number)
