"""The sending half under paths that lose, repeat and reorder: every counter is a sum at any time, nothing is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.invariants import check_tables
from vantun.dataplane.config import DataplaneConfig
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.transfer import start_transfer
from vantun.session.limits import Limits

SMALL = DataplaneConfig(limits=Limits(sessions=2, flows=16, rows=2048, flows_per_session=8))

PROFILES = st.builds(
    LinkProfile,
    rate=st.sampled_from([20e6, 200e6]),
    delay=st.sampled_from([0.0, 0.003, 0.03]),
    loss=st.sampled_from([0.0, 0.02, 0.2, 0.5]),
    jitter=st.sampled_from([0.0, 0.01]),
    reorder=st.just(value=True),
    duplicate=st.sampled_from([0.0, 0.05]),
    queue_bytes=st.sampled_from([20_000, 1_000_000]),
)


@pytest.mark.slow
@given(
    profiles=st.lists(PROFILES, min_size=1, max_size=2),
    config=st.builds(
        lambda fec, max_rows, rekey_after: replace(SMALL, fec=fec, max_rows=max_rows, rekey_after=rekey_after),
        st.booleans(),
        st.sampled_from([1, 3, 127]),
        st.sampled_from([150, 1 << 22]),
    ),
    seed=st.integers(0, 1 << 16),
    sizes=st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)),
    close=st.booleans(),
)
@settings(max_examples=settings().max_examples // 5 + 1)
def test_transfers(
    profiles: list[LinkProfile], config: DataplaneConfig, seed: int, sizes: tuple[int, int], close: bool
) -> None:
    network = Network(config, seed=seed)
    for path, profile in enumerate(profiles, 1):
        network.add_path(path, profile)
    transfer = start_transfer(network, *sizes)
    ends = (network.client, network.server)
    for step in range(12):
        network.run(network.now + 0.01)
        for end in ends:
            check_tables(end.plane)
        if close and step == 5 and len(profiles) == 2:
            for end in ends:
                end.plane.close_lane(SESSION, 1, network.now)
    assert network.run(300.0, lambda: transfer.done(network)), network.client.plane.snapshot()
    network.run(network.now + 1.0)
    transfer.check(network)
    for end in ends:
        check_tables(end.plane)
        end.plane.end_session(SESSION, network.now)
        assert end.rows_in_use == 0
