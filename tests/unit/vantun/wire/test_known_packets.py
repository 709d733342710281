"""Packets byte by byte, as docs/protocol.md has them: what an endpoint sends, and what it makes of a hand-made one."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from tests.peer import ANSWER_CID, CID, SECRETS, Peer, data, open_record, stream
from vantun.dataplane.events import FlowOpened
from vantun.lab.endpoint import MemoryPort
from vantun.lab.network import SESSION
from vantun.session.keys import expand_label

OPENING = bytes.fromhex(
    "08 01 00000005 00 00"  # DATA, channel 1, shard 5, k not known, row 0
    "001c"  # 28 bytes of records
    "01 00 0a 613a3830 2e6578616d70"  # OPEN, flow 0, 10 bytes: "a:80.examp"
    "11 00 01 02 6869"  # STREAM with a length, flow 0, offset 1, 2 bytes: "hi"
    "06 02 80040000"  # CREDIT, flow 2, 262144
    "00 ffff".replace(" ", "")  # END, and what comes after it means nothing
)

_SIZES = ((b"key", 16), (b"iv", 12), (b"hp", 16))


def seal(secret: bytes, cid: bytes, number: int, frames: bytes) -> bytes:
    """Protect a packet with nothing but RFC 9001 and the ciphers of a library."""
    key, iv, hp = (expand_label(secret, b"quic " + name, size) for name, size in _SIZES)
    header = b"\x43" + cid + (number & 0xFFFFFFFF).to_bytes(4, "big")
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    packet = bytearray(header + AESGCM(key).encrypt(nonce, frames, header))
    mask = Cipher(AES(hp), ECB()).encryptor().update(bytes(packet[13:29]))
    packet[0] ^= mask[0] & 0x1F
    for i in range(4):
        packet[9 + i] ^= mask[1 + i]
    return bytes(packet)


def test_a_packet_made_with_the_rfc_in_hand_is_understood() -> None:
    unit = OPENING[8:]
    area = unit[2 : 2 + unit[1]]
    frames = data(1, 5, area)
    assert frames[: len(OPENING)] == OPENING
    peer = Peer()
    peer.end.arrive(seal(SECRETS[0], CID, (1 << 31) - 1, frames), peer.now)
    peer.end.run(peer.now)
    assert peer.drops() == {}
    opened = [event for event in peer.end.events if isinstance(event, FlowOpened)]
    assert [event.target for event in opened] == ["a:80.examp"]
    t = peer.end.plane.context.tables
    assert t.lane[0]["largest_rx"] == (1 << 31) - 1
    assert t.session[0]["peer_flow"] == 2
    assert t.channel[1]["largest_seq"] == 5


def test_the_first_packets_of_a_server() -> None:
    peer = Peer()
    peer.send(data(0, 0, open_record(0)))
    first, second = peer.depart(0.25)
    assert first.hex(" ") == (
        "03 01 00 80 03 d0 90 00 00 00 01 00"  # RECEIPT: path 1, largest 0, 250,000 us, no marks, a range of one number
        " 04 00 40 80 01 40 80 02 40 80 03 40 80"  # four channels, credit for 128 blocks each
    )
    assert second[0] == 0x01
    assert len(second) == 9


def test_the_first_packets_of_a_client() -> None:
    peer = Peer(client=True)
    port = MemoryPort()
    port.feed(b"hello")
    port.finish()
    peer.end.plane.open_flow(SESSION, "a:1", port, peer.now)
    datagrams = [datagram for _, datagram in peer.end.depart(peer.now)]
    assert len(datagrams) == 1  # the PROBE; a path that did not answer yet carries nothing else
    number, frames = peer.unseal(datagrams[0])
    assert (number, frames[0], len(frames)) == (0, 1, 9)
    assert seal(SECRETS[1], ANSWER_CID, 0, frames) == datagrams[0]
    peer.send(b"\x02" + frames[1:])
    sent = [frames for frames in peer.depart() if frames[0] == 8]
    assert data(0, 0, open_record(0, b"a:1")) in sent
    assert data(0, 1, b"\x03\x00\x05") in sent  # FIN: five bytes
    assert data(1, 0, stream(0, 0, b"hello", counted=False)) in sent


@pytest.mark.parametrize("size", [0, 1, 12, 13, 29, 32])
def test_what_is_too_short_belongs_to_nobody(size: int) -> None:
    peer = Peer()
    peer.end.arrive((b"\x43" + CID + bytes(100))[:size], peer.now)
    peer.end.run(peer.now)
    assert peer.end.misses == 1
    assert peer.drops() == {}


def test_the_long_header_bit_leads_to_quic() -> None:
    peer = Peer()
    packet = peer.packet(bytes(20))
    peer.end.arrive(bytes([packet[0] | 0x80]) + packet[1:], peer.now)
    peer.end.run(peer.now)
    assert peer.end.misses == 1


def test_frames_may_follow_the_unit_and_none_follows_parity() -> None:
    peer = Peer()
    peer.send(data(1, 0, b"") + b"\0\0\x01" + bytes(range(8)))
    answers = peer.depart()
    assert b"\x02" + bytes(range(8)) in answers
