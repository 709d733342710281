from __future__ import annotations

import json
from dataclasses import replace

from rich.console import Console

from vantun.demo.machine import facts
from vantun.demo.phase import PhaseFigures, TransferFigures, shards_of, wire_bytes
from vantun.demo.report import document, notes, problems, table
from vantun.demo.scene import Settings

TRANSFER = TransferFigures(
    bytes=10_000_000,
    seconds=1.0,
    goodput_bps=80e6,
    ceiling_bps=160e6,
    sha256="aa",
    expected_sha256="aa",
    error="",
)
PHASE = PhaseFigures(
    name="FEC on",
    fec=True,
    start_seconds=2.0,
    download=TRANSFER,
    upload=TRANSFER,
    requests={"count": 9, "p50_s": 0.0421, "p99_s": 0.0634, "max_s": 0.07, "latencies_s": [0.0421], "error": ""},
    shards={"sent": 20_000, "parity": 900, "lost": 1234, "recovered": 600, "resent": 34},
    wire_bytes=24_000_000,
    delivered_bytes=20_000_000,
    cut="",
    failover={"download_s": None, "requests_s": None},
    relay={"valid": True, "lag_mean_s": 0.00021, "lag_max_s": 0.0123},
    engines={"fec.encode": "simd"},
    cpu_busy=0.93,
)
CUT = replace(PHASE, name="A cut", cut="A", failover={"download_s": 0.3512, "requests_s": 0.42})


def rendered(*phases: PhaseFigures) -> str:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(table(phases))
    return capture.get()


def test_the_table_has_every_figure() -> None:
    text = rendered(PHASE, CUT)
    for figure in (
        "80.0 Mbit/s",
        " 50 %",
        " 93 %",
        "42 / 63 ms",
        " 1,234 ",
        " 600 ",
        " 34 ",
        "1.20",
        " 351 ms",
        " 420 ms",
        "0.21 / 12.3 ms",
        "equal",
        "A cut",
    ):
        assert figure in text
    assert "INVALID" not in text


def test_a_run_whose_emulator_lagged_is_marked_and_explained() -> None:
    late = replace(PHASE, relay={"valid": False, "lag_mean_s": 0.0017, "lag_max_s": 0.04})
    assert "INVALID 1.70 / 40.0 ms" in rendered(late)
    assert any("INVALID" in note for note in notes(Settings(), [late]))
    assert document(Settings(), [late], {})["phases"][0]["valid"] is False  # type: ignore[index]


def test_the_notes_say_how_the_ceiling_was_computed() -> None:
    first, *rest = notes(Settings(), [PHASE])
    assert "rate x (1 - loss) x 1435/1514" in first
    assert rest == [
        "Path A: 100 Mbit/s, 40 ms RTT, 5% lost at random.",
        "Path B: 100 Mbit/s, 70 ms RTT, 3% lost in bursts of 3 packets.",
        "Engines: fec.encode simd.",
    ]


def test_what_arrived_changed_or_not_at_all_is_a_problem() -> None:
    changed = replace(PHASE, upload=replace(TRANSFER, sha256="ab"))
    broken = replace(PHASE, name="A cut", download=replace(TRANSFER, error="no byte for 20 s", goodput_bps=None))
    early = replace(CUT, failover=PHASE.failover)
    silent = replace(PHASE, requests={**PHASE.requests, "error": "reset"})
    assert problems([PHASE]) == []
    assert problems([changed, broken, silent, early]) == [
        "FEC on: the upload arrived with other bytes than were sent (SHA-256 differs)",
        "A cut: the download broke after 10,000,000 bytes: no byte for 20 s",
        "FEC on: the small requests broke: reset",
        "A cut: the download was over before path A was cut; choose a larger --size",
    ]
    text = rendered(changed, broken)
    assert "DIFFERENT" in text
    assert "BROKEN" in text


def test_the_document_is_json_with_raw_figures_and_the_machine() -> None:
    found = json.loads(json.dumps(document(Settings(seed=4), [PHASE, CUT], facts())))
    assert found["settings"]["seed"] == 4
    assert found["settings"]["paths"][1]["burst"] == 3.0
    assert found["phases"][0]["requests"]["latencies_s"] == [0.0421]
    assert found["phases"][0]["overhead"] == 1.2
    assert found["phases"][1]["download_share_of_ceiling"] == 0.5
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["aioquic"]


def test_counters_of_both_ends_and_both_directions_are_summed() -> None:
    channel = {"shards": 100, "parity": 7, "lost": 5, "rx_recovered": 4, "resent": 1}
    status = {"client": {"channels": [channel, channel]}, "server": {"channels": [channel]}}
    assert shards_of(status) == {"sent": 300, "parity": 21, "lost": 15, "recovered": 12, "resent": 3}
    way = {"bytes_in": 1200, "in": 2}
    assert wire_bytes({"paths": [[way, way], [way, {"bytes_in": 0, "in": 0}]]}) == 3 * (1200 + 84)
