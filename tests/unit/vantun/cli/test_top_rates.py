from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vantun.cli.top_documents import later, spend, status
from vantun.cli.top_rates import Rates, rates


def between(before: object, after: object, seconds: float = 1.0) -> Rates:
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    found = rates(before, after, seconds)
    assert found is not None
    return found


def test_rates_are_differences_over_time() -> None:
    before = status()
    after = later(before, out_bps=40e6, in_bps=8e6)
    spend(after, "seal", 0.5, calls=200)
    spend(after, "open", 0.1)
    after["worker"].update(cpu_s=7.8, cpu_system_s=1.2, cpu_wait_s=0.75)
    after["channels"][0].update(shards=109, rx_recovered=14, resent=6, queued=3)
    after["drops"]["bad"] = 8
    found = between(before, after, 2.0)
    seal = next(stage for stage in found.stages if stage.name == "seal")
    assert (seal.calls, seal.packets, seal.per_call, seal.ns_per_packet) == (100, 1000, 10, 250_000)
    assert (seal.busy, seal.share) == pytest.approx((0.25, 0.625))
    assert found.worker.busy == pytest.approx(0.4)
    assert (found.worker.system, found.worker.wait) == pytest.approx((0.1, 0.125))
    assert (found.out_bps, found.in_bps) == (20e6, 4e6)
    assert found.paths[0].cpu == pytest.approx(found.worker.busy)
    channel = found.channels[0]
    assert (channel.queued, channel.sent, channel.repaired, channel.resent) == (3, 50, 5, 2)
    assert found.drops == {"bad": 4}


def test_processor_time_of_paths_goes_by_their_packets() -> None:
    before = status()
    before["lanes"].append({**before["lanes"][0], "path": 1})
    after = later(before, out_bps=30e6)
    after["lanes"][1]["received"] += 1000
    after["worker"]["cpu_s"] += 0.8
    assert [path.cpu for path in between(before, after).paths] == pytest.approx([0.6, 0.2])


def test_without_packets_nothing_is_divided() -> None:
    found = between(status(), status())
    assert all(stage.per_call is None and stage.ns_per_packet is None and stage.share == 0.0 for stage in found.stages)
    assert found.paths[0].cpu == 0.0
    assert found.drops == {}


def test_an_appliance_that_began_anew_counts_from_nothing() -> None:
    before = status()
    after = later(before, out_bps=40e6)
    after["pid"] = 20
    after["worker"].update(pid=21, cpu_s=0.25)
    after["lanes"][0].update(sent_bytes=500, sent=5)
    found = between(before, after)
    assert found.restarted
    assert found.worker.replaced
    assert found.worker.busy == 0.25
    assert found.paths[0].out_bps == 4000


def test_a_lane_that_began_anew_counts_from_nothing() -> None:
    before, after = status(), status()
    after["lanes"][0].update(sent_bytes=10)
    assert between(before, after).paths[0].out_bps == 80
    after["lanes"][0].update(path=7)
    assert between(before, after).paths[0].in_bps == 8000


def test_without_a_worker_or_a_moment_before_there_are_no_rates() -> None:
    assert rates({}, status(), 1.0) is None
    assert rates(status(), {}, 1.0) is None
    assert rates(status(), status(), 0.0) is None


def test_what_an_older_appliance_does_not_tell_is_none() -> None:
    old = status()
    for name in ("cpu_system_s", "cpu_wait_s"):
        del old["worker"][name]
    del old["lanes"][0]["limited"]
    del old["pool"]
    found = between(old, old)
    assert (found.worker.system, found.worker.wait, found.paths[0].limited, found.rows_free) == (None, None, None, None)


def test_engines_out_of_service_are_listed() -> None:
    after = status()
    after["engine_watch"][0].update(fallback=True, wanted="qat", reason="a batch missed its deadline", redone=64)
    after["engine_watch"][0]["rungs"] = [
        {"engine": "qat", "state": "quarantined"},
        {"engine": "simd", "state": "serving"},
    ]
    engine = between(status(), after).engines[0]
    assert (engine.engine, engine.wanted, engine.out, engine.redone) == ("simd", "qat", ("qat (quarantined)",), 64)


@given(st.lists(st.integers(0, 10**9), min_size=8, max_size=8), st.floats(0.01, 100))
def test_no_rate_is_negative(counts: list[int], seconds: float) -> None:
    before, after = status(), status()
    for document, part in ((before, counts[:4]), (after, counts[4:])):
        document["lanes"][0].update(sent=part[0], sent_bytes=part[1])
        document["stages"][0].update(ns=part[2], calls=part[3])
    found = between(before, after, seconds)
    assert found.paths[0].out_packets >= 0
    assert found.out_bps >= 0
    assert found.stages[0].calls >= 0
    assert 0 <= found.stages[0].share <= 1


def test_of_several_workers_the_busiest_counts_and_a_sample_across_a_death_says_nothing() -> None:
    before = {**status(), "crew": 2}
    each = [{"worker": index, "pid": 20 + index, "cpu_s": 1.0, "rss_bytes": 10} for index in range(2)]
    before["workers"] = {**before["workers"], "each": each}
    after = copy.deepcopy(before)
    after["workers"]["each"][1]["cpu_s"] = 1.75
    found = rates(before, after, 1.0)
    assert found is not None
    assert (found.worker.pid, found.worker.busy, found.worker.resident) == (21, 0.75, 20)
    after["workers"]["each"][1]["pid"] = 30
    assert rates(before, after, 1.0) is None
    del after["workers"]["each"][1]
    assert rates(before, after, 1.0) is None
