from __future__ import annotations

from accel.trials import SealRow, SpanRow, packet, seal_job, span_job
from accel.weight import mean_octets, octets_of


def test_a_packet_counts_its_bytes_and_a_span_those_of_its_data() -> None:
    packets = seal_job([SealRow(0, number, packet(number, 0, bytes(100 * number))) for number in (1, 2)])
    assert octets_of(packets, 1) - octets_of(packets, 0) == 100
    assert mean_octets(packets) == (octets_of(packets, 0) + octets_of(packets, 1)) / 2
    spans = span_job([SpanRow((bytes(50),) * 3, 0, (0, 1)), SpanRow((bytes(20),) * 10, 0, (0,))])
    assert [octets_of(spans, row) for row in (0, 1)] == [150, 200]
    assert mean_octets(spans) == 175.0
