"""What the milestone promises of one path, 100 Mbit/s and 80 ms: goodput against the ceiling, and small requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from vantun.lab.link import LinkProfile
from vantun.lab.measure import bulk, network_of, requests

Record = Callable[[str, object], None]
LONG = LinkProfile(rate=100e6, delay=0.04, loss=0.05, queue_bytes=1_000_000)


@pytest.mark.slow
def test_bulk_with_a_measured_rate(record_property: Record) -> None:
    goodput = bulk(network_of(LONG))
    record_property("goodput", str(goodput))
    assert goodput.ceiling_share >= 0.85


@pytest.mark.slow
def test_bulk_on_a_clean_path_never_stalls(record_property: Record) -> None:
    # the receiver sends hardly anything but RECEIPTs and credit: credit must not wait until RECEIPTs are paid for
    goodput = bulk(network_of(replace(LONG, loss=0.0)), window=5.0)
    record_property("goodput", str(goodput))
    assert goodput.ceiling_share >= 0.94


@pytest.mark.slow
def test_small_requests_do_not_make_the_next_download_slow(record_property: Record) -> None:
    network = network_of(replace(LONG, loss=0.01))
    first = bulk(network, warm=1.0, window=1.0)
    requests(network, count=100)
    again = bulk(network, warm=1.0, window=1.0)
    record_property("first, again", f"{first} {again}")
    assert again.ceiling_share > 0.8 * first.ceiling_share


@pytest.mark.slow
def test_bulk_with_a_configured_rate(record_property: Record) -> None:
    goodput = bulk(network_of(LONG, rate=95e6))
    record_property("goodput", str(goodput))
    assert goodput.ceiling_share >= 0.92


@pytest.mark.slow
def test_requests_hardly_notice_the_loss(record_property: Record) -> None:
    with_fec = requests(network_of(LONG), count=1000)
    without = requests(network_of(LONG, fec=False), count=1000)
    record_property("with FEC", str(with_fec))
    record_property("without FEC", str(without))
    assert with_fec.p99_ms <= with_fec.rtt_ms + 25
    assert without.p99_ms > with_fec.p99_ms, "parity repairs before a retransmission could"


def test_a_block_whose_parity_is_lost_does_not_fill_the_window() -> None:
    # One request at a time: every block closes by time, after its data has left without k, and for 8 s all that follows
    # is lost. The sender must go on telling k: else these blocks stay open for ever, and 128 of them are a full window.
    network = network_of(LinkProfile(delay=0.01))
    passed, dropped = -1.0, 0

    def lose_parity(_path: int, direction: int, datagram: bytes) -> bytes | None:
        nonlocal passed, dropped
        if direction or len(datagram) < 1000 or network.now > 8.0:
            return datagram
        if network.now - passed < 0.04:
            dropped += 1
            return None
        passed = network.now
        return datagram

    network.tamper = lose_parity
    answers = requests(network, count=300)
    assert dropped > 128
    assert answers.count == 300
