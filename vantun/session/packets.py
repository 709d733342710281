"""Packet flows: what their ports call. Every function takes ``t`` as a kernel has it, or ``t.root`` from Python.

A packet flow's stream is ``length (4 B, big-endian) | body`` again and again, cut into PACKETS records of the packets
channel (docs/protocol.md, "Packet flows"). There is no credit: what finds no room is dropped whole and counted.
"""

from vantun.session.packets_in import NOW, ORDERED, PACKET_PIECES, next_packet, packet_done
from vantun.session.packets_out import LENGTH_SIZE, MAX_PACKET, packet_room, put_packet
from vantun.session.packets_rows import PIECES, abandon_packet, commit_packet, reserve_packet

__all__ = [
    "LENGTH_SIZE",
    "MAX_PACKET",
    "NOW",
    "ORDERED",
    "PACKET_PIECES",
    "PIECES",
    "abandon_packet",
    "commit_packet",
    "next_packet",
    "packet_done",
    "packet_room",
    "put_packet",
    "reserve_packet",
]
