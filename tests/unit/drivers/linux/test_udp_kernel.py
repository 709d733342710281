"""The loops over packets, on headers that no test kernel writes: cut messages, foreign control data, a full batch."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.batch import CE, ECT0, NOT_ECT, PacketBatch, packet_batch
from drivers.linux.address import pack
from drivers.linux.libc import CONTROLLEN, FLAGS, IOVLEN, MSG_CTRUNC, MSG_TRUNC, RECEIVED
from drivers.linux.udp_kernel import CONTROL_SIZE, MESSAGE_BYTES, SendBuffers, plan, split

STRIDE = 65_600
TOS = struct.pack("<QiiB7x", 17, 0, 1, 0b101110_11)
CLASS = struct.pack("<Qiiixxxx", 20, 41, 67, 0b101110_10)
GRO = struct.pack("<QiiixxxxQ", 20, 17, 104, 1000, 0)
TIMESTAMP = struct.pack("<Qiiqq", 32, 1, 29, 1, 2)


def received(size: int, control: bytes = b"", flags: int = 0) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the header and control data of one received message."""
    headers = np.zeros((1, 8), np.int64)
    headers[0, RECEIVED], headers[0, FLAGS], headers[0, CONTROLLEN] = size, flags, len(control)
    controls = np.zeros((1, CONTROL_SIZE), np.uint8)
    controls[0, : len(control[:CONTROL_SIZE])] = np.frombuffer(control[:CONTROL_SIZE], np.uint8)
    return headers, controls


def empty(capacity: int = 100) -> PacketBatch:
    return packet_batch(np.zeros(STRIDE, np.uint8), capacity, np.zeros((1, 28), np.uint8))


@pytest.mark.parametrize("control", [GRO, TIMESTAMP + GRO], ids=["alone", "behind another"])
def test_a_merged_message_is_split(control: bytes) -> None:
    batch = empty()
    tally = split(*received(2500, control), STRIDE, 1, batch)
    assert tally == (3, 2500, 1, 0, 0)
    assert batch.offset[:3].tolist() == [0, 1000, 2000]
    assert batch.length[:3].tolist() == [1000, 1000, 500]


@pytest.mark.parametrize(
    ("control", "mark"),
    [(TOS, CE), (CLASS, ECT0), (TOS + GRO[:24], CE), (GRO[:24] + CLASS, ECT0), (GRO, NOT_ECT), (b"", NOT_ECT)],
)
def test_ecn_bits_are_read_and_the_rest_of_the_octet_is_not(control: bytes, mark: int) -> None:
    batch = empty()
    tally = split(*received(2500, control), STRIDE, 1, batch)
    assert tally.packets == (3 if GRO[:24] in control else 1)
    assert set(batch.ecn[: tally.packets].tolist()) == {mark}


@pytest.mark.parametrize("flags", [MSG_TRUNC, MSG_CTRUNC])
def test_a_cut_message_is_dropped_and_counted(flags: int) -> None:
    """Without the whole control data nobody knows where its packets end."""
    assert split(*received(2500, GRO, flags), STRIDE, 1, empty()) == (0, 0, 0, 1, 0)


def test_packets_beyond_the_batch_are_counted() -> None:
    batch = empty(2)
    assert split(*received(2500, GRO), STRIDE, 1, batch) == (2, 2000, 1, 0, 1)


@given(
    size=st.integers(0, 65_535),
    control=st.binary(max_size=CONTROL_SIZE) | st.binary(max_size=40).map(lambda tail: GRO + tail),
    flags=st.integers(0, 0xFFFFFFFF),
)
def test_any_control_data_gives_packets_inside_the_message(size: int, control: bytes, flags: int) -> None:
    batch = empty(1000)
    tally = split(*received(size, control, flags), STRIDE, 1, batch)
    ends = batch.offset[: tally.packets] + batch.length[: tally.packets]
    assert (batch.length[: tally.packets] >= 0).all()
    assert ends.max(initial=0) <= size
    assert tally.truncated or tally.overflow or tally.size == size


def buffers(messages: int = 64, pieces: int = 2048) -> SendBuffers:
    return SendBuffers(
        headers=np.zeros((messages, 8), np.int64),
        iovecs=np.zeros((pieces, 2), np.int64),
        controls=np.zeros((messages, CONTROL_SIZE), np.uint8),
        bound=np.zeros((messages + 1, 3), np.int64),
        refused=np.zeros((64, 28), np.uint8),
    )


@given(
    lengths=st.lists(st.sampled_from([0, 1, 700, 1350, 9000, 65_507]) | st.integers(0, 2000), min_size=1, max_size=200),
    peers=st.lists(st.integers(0, 1), min_size=200, max_size=200),
    kinds=st.lists(st.integers(0, 3), min_size=200, max_size=200) | st.just([ECT0] * 200),
    segments=st.sampled_from([1, 2, 64]),
    marks=st.sampled_from([0, 3]),
)
def test_a_plan_keeps_every_rule(
    lengths: list[int], peers: list[int], kinds: list[int], segments: int, marks: int
) -> None:
    count = len(lengths)
    batch = packet_batch(np.zeros(1 << 20, np.uint8), count, np.zeros((2, 28), np.uint8))
    batch.address[0] = np.frombuffer(pack("127.0.0.1", 9), np.uint8)
    batch.address[1] = np.frombuffer(pack("fd00::1", 9), np.uint8)
    batch.length[:] = lengths
    batch.ecn[:] = kinds[:count]
    batch.peer[:] = peers[:count]
    batch.offset[:] = 100 * np.arange(count)
    out = buffers()
    messages = plan(batch, out, 0, count, segments, 0, marks)
    bound = out.bound[: messages + 1]
    assert bound[0].tolist() == [0, 0, 0]
    assert bound[-1, 0] == count or messages == 64
    assert out.headers[:messages, IOVLEN].sum() <= 2048
    for message in range(messages):
        first, after = int(bound[message, 0]), int(bound[message + 1, 0])
        inside = lengths[first:after]
        assert 1 <= len(inside) <= segments
        assert len(inside) == 1 or sum(inside) <= MESSAGE_BYTES
        assert len({*peers[first:after]}) == 1
        assert len({*kinds[first:after]}) == 1
        assert len(set(inside[:-1])) <= 1
        assert len(inside) == 1 or 0 < inside[-1] <= inside[0]
        assert bound[message + 1, 1] - bound[message, 1] == sum(inside)
        assert bound[message + 1, 2] - bound[message, 2] == (len(inside) > 1)
        mark = kinds[first] & marks
        assert out.headers[message, CONTROLLEN] == 24 * (len(inside) > 1) + 24 * (mark > 0)
        if mark:
            way = (0, 1) if peers[first] == 0 else (41, 67)  # IP_TOS, IPV6_TCLASS
            assert struct.unpack("<Qiii", out.controls[message, 24:44].tobytes()) == (20, *way, mark)
        size = int(out.controls[message, 16]) + 256 * int(out.controls[message, 17])
        assert len(inside) == 1 or size == inside[0]


def test_small_buffers_end_a_plan_early() -> None:
    batch = packet_batch(np.zeros(10_000, np.uint8), 30, np.zeros((1, 28), np.uint8))
    batch.length[:] = 10
    batch.offset[:] = 20 * np.arange(30)
    assert plan(batch, buffers(messages=3, pieces=20), 0, 30, 4, 0, 3) == 3
    assert plan(batch, buffers(messages=9, pieces=11), 0, 30, 4, 0, 3) == 2
