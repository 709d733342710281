from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.cli.status_efficiency import OUTSIDE, SHARD_HEADERS, UNIT_FRAME, bytes_sent, cpu_time

CHANNELS = [
    {"class": "control", "shards": 10, "bytes": 500, "parity": 2, "parity_bytes": 100},
    {
        "class": "bulk",
        "shards": 100,
        "bytes": 100 * 1000,
        "parity": 10,
        "parity_bytes": 10_000,
        "resent": 3,
        "resent_bytes": 3000,
    },
]
ON_WIRE = 100_000 + 10_000 + 3000 + SHARD_HEADERS * 113 + 600 + 250
STATUS = {
    "lanes": [{"sent": 140, "sent_bytes": ON_WIRE, "padding": 250}],
    "channels": CHANNELS,
    "stages": [{"name": "seal", "calls": 5, "ns": 2_000_000_000}],
    "worker": {"cpu_s": 5.0},
}


def test_every_byte_is_counted_once() -> None:
    shares = {share.name: share for share in bytes_sent(STATUS)}
    assert shares["data"].amount == 100 * (1000 - UNIT_FRAME)
    assert shares["FEC"].amount == 10_000
    assert shares["repeats"].amount == 3000
    assert shares["headers"].amount == SHARD_HEADERS * 113 + UNIT_FRAME * 100
    assert shares["padding"].amount == 250
    assert shares["coordination"].amount == 600
    assert shares["IP and UDP"].amount == OUTSIDE * 140
    assert sum(share.amount for share in shares.values()) == ON_WIRE + OUTSIDE * 140
    assert sum(share.share for share in shares.values()) == pytest.approx(1.0)


def test_time_outside_of_stages_is_named() -> None:
    shares = {share.name: share for share in cpu_time(STATUS)}
    assert shares["seal"].amount == 2.0
    assert shares["sockets and loop"].amount == 3.0
    assert shares["seal"].share == 0.4


@given(
    st.dictionaries(st.sampled_from(["lanes", "channels", "stages", "worker"]), st.none() | st.integers() | st.text())
)
def test_an_empty_or_odd_status_divides_by_nothing(odd: dict[str, object]) -> None:
    assert all(share.share == 0.0 for share in bytes_sent(odd) + cpu_time(odd))
