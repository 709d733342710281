"""The small programs at both ends of the line laboratory: echo requests, packets of mixed sizes, streams."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import line_rtt, line_stream, line_udp
from benchmarks.line_measure import parse_report


def test_an_echo_request_is_whole_and_its_answer_is_known() -> None:
    message = line_rtt.request(0x1234, 7, 99)
    assert line_rtt.checksum(message) == 0
    came = bytes([0x46]) + bytes(23) + b"\0" + message[1:]
    assert line_rtt.answer(came, 0x1234) == (7, 99)
    assert line_rtt.answer(came, 0x4321) is None
    assert line_rtt.answer(bytes([0x46]) + bytes(23) + message, 0x1234) is None  # our own request, seen on the way out
    assert line_rtt.answer(came[:20], 0x1234) is None


def test_quantiles() -> None:
    assert [line_rtt.quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 4.0, 4.0]
    assert line_rtt.quantile([], 0.5) == 0.0


@pytest.mark.parametrize(("mix", "parts"), [("64", {36: 12}), ("1400", {1372: 12}), ("imix", {36: 7, 548: 4, 1372: 1})])
def test_mixes_are_what_they_say_in_every_twelve(mix: str, parts: dict[int, int]) -> None:
    sizes = line_udp.pattern(mix, 36)
    assert Counter(sizes) == {size: 3 * times for size, times in parts.items()}
    assert Counter(sizes[:12]) == parts


def test_counts_travel_in_a_file(tmp_path: Path) -> None:
    path = line_udp.counter_file(tmp_path)
    assert line_udp.read_counts(path) == (0, 0)
    path.write_bytes(struct.pack("=qq", 5, 320) + bytes(100))
    assert line_udp.read_counts(path) == (5, 320)


@pytest.mark.parametrize("down", [False, True])
def test_a_stream_is_counted_by_its_receiver(down: bool) -> None:
    near, far = socket.socketpair()
    server = threading.Thread(target=line_stream.serve_one, args=(far,))
    server.start()
    with near:
        found = line_stream.measure(near, 0.05, down=down)
    server.join()
    assert found["bytes"] > 0
    assert found["mbit_s"] > 0


def test_warnings_before_a_report_are_no_part_of_it() -> None:
    assert parse_report('warning: UDP block size 1372 exceeds TCP MSS 1350\n{"end": {}}\n') == {"end": {}}
    assert parse_report("iperf3: not found\n") == {}
