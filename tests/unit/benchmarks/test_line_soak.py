"""What the soak of the line laboratory looks at: counters, packet numbers, memory, headers, the program that drops."""

from __future__ import annotations

import socket
import struct
from typing import Any

from benchmarks.line_bpf import instruction, program
from benchmarks.line_capture import HEADER, SAMPLE, Capture, header_of, sample_filter
from benchmarks.line_soak import Watch, bad, counters, falls, gaps, growth, numbers, untold
from benchmarks.line_subjects import Running


def status(pid: int, sent: int, next_pn: int, bad_tags: int = 0) -> dict[str, Any]:
    lane = {"session": "5", "path": 1, "sent": sent, "next_pn": next_pn, "bad_tags": bad_tags}
    return {"worker": {"pid": pid}, "lanes": [lane], "drops": {"bad": 1}}


def test_what_falls_is_named() -> None:
    assert falls({"a": 3.0, "b": 1.0}, {"a": 2.0, "b": 1.0, "c": 0.0}) == ["a: 3, then 2"]
    found = counters(status(1, 7, 9, bad_tags=2))
    assert (found["lanes 5 1 sent"], found["lanes 5 1 bad_tags"], found["drops bad"]) == (7.0, 2.0, 1.0)
    assert numbers(status(1, 7, 9)) == {"5 1 0": 9}
    assert bad(status(1, 7, 9, bad_tags=2)) == 3


def test_counters_may_begin_anew_with_a_worker_but_packet_numbers_may_not() -> None:
    watch = Watch(Running(""))
    watch.see("a", status(1, 100, 100))
    watch.see("a", status(2, 5, 200))
    assert not watch.counter_falls
    assert not watch.number_falls
    watch.see("a", status(2, 4, 150))
    assert watch.counter_falls == ["client lanes 5 1 sent: 5, then 4"]
    assert watch.number_falls == ["client 5 1 0: 200, then 150"]
    assert watch.bad_tags == 1


def test_growth_compares_the_halves() -> None:
    assert growth([100, 120, 110, 126]) == 126 / 120 - 1
    assert growth([100]) == 0.0


def test_silence_of_iperf3() -> None:
    def report(*sizes: int) -> dict[str, Any]:
        return {"intervals": [{"sum": {"bytes": size}} for size in sizes]}

    assert gaps(report(5, 0, 5, 0)) == (1 + 1, True)
    assert gaps(report(5, 0, 0, 0)) == (3, False)


def test_every_packet_is_told_by_some_counter() -> None:
    before = {"sent": 100.0, "received": 90.0, "drops": 0.0}
    after = {"sent": 1100.0, "received": 1040.0, "drops": 5.0}
    assert untold(before, after, kernel_dropped=15, lost=30) == 0.0
    assert untold(before, after, kernel_dropped=15, lost=20) == 0.01
    assert untold(before, before, 0, 0) == 0.0


def test_the_share_of_loss_is_a_number_that_jumps_can_compare() -> None:
    assert struct.unpack_from("=i", program(3, 0.02), 12 * 8 + 4)[0] == int(0.02 * 2**32)
    assert struct.unpack_from("=i", program(3, 0.75), 12 * 8 + 4)[0] == int(0.75 * 2**32) - 2**32
    assert program(7, 0.5)[5 * 8 :][:8] == instruction(0x18, 1, 1, value=7)
    assert len(program(3, 0.02)) == 19 * 8


def frame(payload: bytes, source: int = 443, target: int = 9, ethertype: int = 0x0800) -> bytes:
    ip = bytes([0x45]) + bytes(8) + bytes([socket.IPPROTO_UDP]) + bytes(10)
    return bytes(12) + struct.pack("!H", ethertype) + ip + struct.pack("!HHHH", source, target, 8, 0) + payload


def runs(data: bytes) -> int:
    """Interpret the filter as the kernel does; return what it lets through of a frame."""
    words, place, accumulator = sample_filter(443), 0, 0
    while True:
        code, yes, no, value = words[place]
        place += 1
        if code == 0x28:
            accumulator = struct.unpack_from("!H", data, value)[0]
        elif code == 0x30:
            accumulator = data[value]
        elif code in (0x15, 0x45):
            place += yes if (accumulator == value if code == 0x15 else accumulator & value) else no
        else:
            assert code == 0x06
            return value


def test_the_filter_takes_a_sample_of_the_tunnels_packets() -> None:
    chosen, other = bytes(20) + bytes([SAMPLE]) + bytes(40), bytes(20) + bytes([SAMPLE + 1]) + bytes(40)
    assert runs(frame(chosen)) == 42 + HEADER
    assert runs(frame(chosen, 9, 443)) == 42 + HEADER
    assert runs(frame(other)) == runs(frame(chosen, 9, 9)) == runs(frame(chosen, ethertype=0x0806)) == 0


def test_a_header_that_comes_twice_is_found() -> None:
    one, two = bytes([0x45]) + bytes(range(60)), bytes([0x45]) + bytes(range(1, 61))
    assert header_of(frame(one)) == one[:HEADER]
    assert header_of(frame(bytes([0xC0]) + bytes(60))) is None
    assert header_of(frame(bytes([0x45]))) is None
    capture = Capture.__new__(Capture)
    capture.seen = capture.repeated = 0
    capture._known = set()
    for each in (one, two, one):
        capture.take(frame(each))
    assert (capture.seen, capture.repeated) == (3, 1)
