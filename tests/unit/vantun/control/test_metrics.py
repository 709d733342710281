from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from vantun.control.metrics import MOST_PATHS, OTHER, Exporter, Totals


def document(**changes: Any) -> dict[str, Any]:
    lane = {
        "session": "1f",
        "path": 0,
        "name": "dsl",
        "user": "alice",
        "peer": "192.0.2.1:443",
        "state": "active",
        "rtt_ms": 40.5,
        "loss": 0.05,
        "received_bytes": 1000,
        "sent": 7,
        **changes,
    }
    return {
        "role": "client",
        "version": "0.1.0",
        "ready": True,
        "uptime": 12.5,
        "lanes": [lane],
        "channels": [{"session": "1f", "channel": 2, "class": "bulk", "rx_recovered": 3}],
        "packets": [{"session": "1f", "packets_in": 20, "packets_out": 30, "expired": 2, "holes": 1}],
        "engines": {"fec.encode": "simd"},
        "engine_watch": [
            {
                "operation": "fec.encode",
                "fallback": True,
                "redone": 7,
                "rungs": [
                    {"engine": "qat", "state": "quarantined", "late": 3, "full": 2, "failures": {"timeout": 4}},
                    {"engine": "simd", "state": "serving", "slowness": 1.5},
                ],
            }
        ],
        "gpu_services": [
            {"engine": "cuda", "device": 1, "state": "serving", "clients": 8, "jobs": 90, "launches": 30, "restarts": 2}
        ],
        "stages": [{"name": "seal", "calls": 2, "packets": 64, "ns": 5_000}],
        "drops": {"replay": 4},
        "flows": {"open": 9},
        "worker": {"rss_bytes": 1 << 20, "cpu_s": 0.5},
        "pool": {"rows": 100, "rows_free": 90},
    }


def samples(exporter: Exporter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exporter.page().decode())
        for sample in family.samples
    }


def test_names_units_and_labels() -> None:
    exporter = Exporter()
    exporter.look(document())
    found = samples(exporter)
    path = (("path", "dsl"), ("peer", "192.0.2.1:443"))
    assert found["vantun_path_receive_bytes_total", path] == 1000
    assert found["vantun_path_rtt_seconds", path] == 0.0405
    assert found["vantun_path_up", path] == 1
    assert found["vantun_fec_recovered_packets_total", (("class", "bulk"),)] == 3
    assert found["vantun_fec_residual_packets_total", ()] == 2
    device, software = (("kind", "fec.encode"), ("name", "qat")), (("kind", "fec.encode"), ("name", "simd"))
    assert found["vantun_engine_failures_total", (("cause", "timeout"), *device)] == 4
    assert (found["vantun_engine_state", device], found["vantun_engine_state", software]) == (0, 2)
    assert (found["vantun_engine_late_tickets", device], found["vantun_engine_full_total", device]) == (3, 2)
    assert found["vantun_engine_slowness_ratio", software] == 1.5
    assert found["vantun_engine_rows_total", (("kind", "fec.encode"), ("outcome", "redone"))] == 7
    assert found["vantun_engine_fallback", (("kind", "fec.encode"),)] == 1
    gpu = (("device", "1"), ("name", "cuda"))
    assert (found["vantun_gpu_service_up", gpu], found["vantun_gpu_service_clients", gpu]) == (1, 8)
    assert found["vantun_gpu_service_batches_total", gpu] == 90
    assert found["vantun_gpu_service_launches_total", gpu] == 30
    assert found["vantun_gpu_service_restarts_total", gpu] == 2
    assert found["vantun_packets_receive_total", ()] == 30
    assert found["vantun_engine_info", (("kind", "fec.encode"), ("name", "simd"))] == 1
    assert found["vantun_stage_seconds_total", (("stage", "seal"),)] == 5e-6
    assert found["vantun_dropped_packets_total", (("reason", "replay"),)] == 4
    assert found["vantun_sessions_open", ()] == 1
    assert found["vantun_build_info", (("role", "client"), ("version", "0.1.0"))] == 1


def test_a_server_names_the_user_and_not_the_address() -> None:
    exporter = Exporter()
    exporter.look({**document(), "role": "server"})
    assert samples(exporter)["vantun_path_receive_bytes_total", (("path", "dsl"), ("peer", "alice"))] == 1000


def test_counters_never_fall_when_lanes_come_and_go() -> None:
    exporter = Exporter()
    path = (("path", "dsl"), ("peer", "192.0.2.1:443"))
    expected = 0.0
    for session, values in (("a", (10, 30)), ("b", (5, 25)), ("b", (7,))):
        for value in values:
            exporter.look(document(session=session, received_bytes=value))
        expected += values[-1]
        assert samples(exporter)["vantun_path_receive_bytes_total", path] == expected


def test_no_document_keeps_what_was_known() -> None:
    exporter = Exporter()
    exporter.look(document())
    exporter.look({})
    assert samples(exporter)["vantun_flows_open", ()] == 9


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=40))
def test_labels_are_bounded(labels: list[tuple[str, str]]) -> None:
    totals = Totals(("sent",), most=8)
    for number, label in enumerate(labels):
        totals.update({(str(number),): (label, {"sent": 1})})
    assert len(totals.sums) <= 9
    assert sum(sums["sent"] for sums in totals.sums.values()) == len(labels)


def test_clients_that_invent_names_are_counted_as_one() -> None:
    exporter = Exporter()
    many = [{**document()["lanes"][0], "path": number, "name": f"path {number}"} for number in range(MOST_PATHS + 9)]
    exporter.look({**document(), "lanes": many})
    other = (("path", OTHER[0]), ("peer", OTHER[1]))
    assert samples(exporter)["vantun_path_receive_bytes_total", other] == 9000


@given(
    st.dictionaries(
        st.sampled_from(["lanes", "channels", "engines", "drops", "worker"]), st.none() | st.integers() | st.text()
    )
)
def test_a_document_of_another_version_is_no_error(odd: dict[str, Any]) -> None:
    exporter = Exporter()
    exporter.look({"role": "client", **odd})
    assert b"vantun_up" in exporter.page()


def test_bytes_of_users_never_fall() -> None:
    exporter = Exporter()
    exporter.look({**document(), "users": [{"user": "alice", "received_bytes": 500, "sent_bytes": 70}]})
    exporter.look({**document(), "users": [{"user": "alice", "received_bytes": 20, "sent_bytes": 90}]})  # restarted
    found = samples(exporter)
    alice = (("user", "alice"),)
    assert found["vantun_user_receive_bytes_total", alice] == 520
    assert found["vantun_user_transmit_bytes_total", alice] == 90


def test_every_counter_is_a_field_that_the_data_plane_reports() -> None:
    """A metric whose field nobody fills would be 0 for ever, and look like good news."""
    from vantun.control import metrics
    from vantun.dataplane import snapshot

    assert set(metrics._PACKET_COUNTERS) <= set(snapshot._PACKET_FIELDS)
    assert set(metrics._CHANNEL_COUNTERS) <= set(snapshot._CHANNEL_FIELDS)
    assert set(metrics._LANE_COUNTERS) <= set(snapshot._LANE_FIELDS)


def test_a_sum_over_workers_goes_on_when_one_is_lost_and_tells_them_apart() -> None:
    exporter = Exporter()
    path = (("path", "dsl"), ("peer", "192.0.2.1:443"))
    each = [{"worker": number, "cpu_s": 1.5 + number, "flows": 2, "udp": 3} for number in range(2)]
    for value in (1000, 400, 450):
        exporter.look({**document(received_bytes=value), "crew": 2, "workers": {"each": each}})
    found = samples(exporter)
    assert found["vantun_path_receive_bytes_total", path] == 1050
    assert found["vantun_each_worker_cpu_seconds_total", (("worker", "1"),)] == 2.5
    assert found["vantun_each_worker_flows", (("worker", "0"),)] == 2
    assert found["vantun_each_worker_udp", (("worker", "1"),)] == 3


def test_flows_that_were_moved_are_counted_in_a_status_and_in_a_snapshot() -> None:
    said = {"moved_buckets": 3, "followed_buckets": 5, "handed_over": 7}
    for tun in ({**said, "packets": {"out": 1}}, {"name": "vantun0", "packets": said}):
        exporter = Exporter()
        exporter.look({"role": "server", "tun": tun})
        found = samples(exporter)
        assert found["vantun_tun_moved_buckets_total", (("by", "load"),)] == 3
        assert found["vantun_tun_moved_buckets_total", (("by", "peer"),)] == 5
        assert found["vantun_tun_handed_over_packets_total", ()] == 7
    exporter = Exporter()
    exporter.look({"role": "server", "tun": {"packets": {"out": 1}}})
    assert not any("vantun_tun" in name for name, _ in samples(exporter))
