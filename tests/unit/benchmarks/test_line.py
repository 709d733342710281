"""The pure parts of the line laboratory: options, leftovers, parsing, ratios."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import line, line_loss
from benchmarks.line_measure import Transfer, parse_pss, parse_transfer
from benchmarks.line_quick import subjects_of, summary
from benchmarks.line_stages import parity_share, stage_costs, stage_table, worker_pids
from benchmarks.line_town import LineError, leftovers


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--wireguard-go", "/no/such"], "no file /no/such"),
        (["--seconds", "-1"], "negative"),
        (["--profile", "magic"], "invalid choice"),
        (["--loss", "50"], "below 50"),
    ],
)
def test_bad_options(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        line.options_of(arguments)
    assert told in capsys.readouterr().err


def test_only_leaves_the_others_out() -> None:
    assert [it.name for it in subjects_of(line.options_of(["--only", "vantun,direct"]))] == ["direct", "vantun"]
    with pytest.raises(LineError, match="no subject 'ipsec'"):
        subjects_of(line.options_of(["--only", "ipsec"]))


def test_with_loss_links_have_no_offloads_and_ratios_are_those_of_one_round() -> None:
    options = line.options_of(["--loss", "2", "--only", "vantun,openvpn"])
    assert options.profile == "software"
    assert [it.name for it in line_loss.subjects_of(options)] == ["vantun", "openvpn"]
    fast, slow = {"tcp1_up_mbit": 300.0, "tcp1_down_mbit": 90.0}, {"tcp1_up_mbit": 100.0, "tcp1_down_mbit": 45.0}
    text = line_loss.table([{"vantun": fast, "openvpn": slow}, {"vantun": {}, "openvpn": slow}], ["openvpn: gone"])
    assert "vantun has up 3.00x, down 2.00x the rate of openvpn." in text
    assert "Not measured: openvpn: gone" in text
    with pytest.raises(LineError, match="no subject 'ipsec'"):
        line_loss.subjects_of(line.options_of(["--loss", "2", "--only", "ipsec"]))


def test_leftovers_are_those_of_runs_that_are_no_more() -> None:
    names = ["vtline12a", "vtline12b", "vtline13a", "vt12a", "vtline12", "vtlinexa", "myvtline12a", "vtline12ab"]
    assert leftovers(names, {13}) == ["vtline12a", "vtline12b"]


def test_pss() -> None:
    text = "Rss:  100 kB\nPss:                40 kB\nPss_Anon: 3 kB\n"
    assert (parse_pss(text), parse_pss(text, "Pss_Anon")) == (40 * 1024, 3 * 1024)
    with pytest.raises(LineError, match="no line Pss"):
        parse_pss("Rss: 100 kB\n")


def report(size: int, rate: float) -> dict[str, Any]:
    return {"end": {"sum_received": {"bytes": size, "bits_per_second": rate}, "sum_sent": {"retransmits": 7}}}


def test_a_report_and_processor_time_are_a_transfer() -> None:
    assert parse_transfer(report(250_000_000, 2e9), [0.1, 0.4]) == Transfer(2000.0, 0.25, 0.2, 7)
    assert parse_transfer(report(0, 0.0), [0.1, 0.4]).cpu_s_per_gbit == 0.0


def stage(name: str, calls: int, packets: int, ns: int) -> dict[str, object]:
    return {"name": name, "calls": calls, "packets": packets, "ns": ns}


def test_stages_are_differences_and_the_rest_is_named() -> None:
    before = {"stages": [stage("seal", 10, 100, 1000), stage("open", 5, 5, 5)]}
    after = {"stages": [stage("seal", 20, 1100, 501_000_000 + 1000), stage("open", 5, 5, 5), stage("new", 1, 0, 0)]}
    costs = stage_costs(before, after, 1.0)
    assert [(it.name, it.packets, it.packets_per_call, it.share) for it in costs] == [
        ("seal", 1000, 100.0, 0.501),
        ("new", 0, 0.0, 0.0),
        ("(sockets, devices, loop)", 0, 0.0, 0.499),
    ]
    assert costs[0].ns_per_packet == 501_000.0
    assert "501000.0" in stage_table(costs)


def test_a_worker_that_was_replaced_counts_from_nothing() -> None:
    costs = stage_costs({"stages": [stage("seal", 9, 900, 9000)]}, {"stages": [stage("seal", 1, 10, 100)]}, 0.0)
    assert (costs[0].packets, costs[0].ns_per_packet, costs[0].share) == (10, 10.0, 0.0)


def test_the_share_of_parity_is_that_of_packets() -> None:
    def status(shards: int, parity: int) -> dict[str, object]:
        rows = [{"class": "packets", "shards": shards, "parity": parity}, {"class": "bulk", "shards": 9, "parity": 9}]
        return {"channels": rows}

    assert parity_share(status(100, 50), status(500, 150)) == 0.25
    assert parity_share(status(100, 50), {}) == 0.0


def test_workers_are_found_one_or_several() -> None:
    assert worker_pids({"worker": {"pid": 5}, "workers": {"deaths": 0}}) == [5]
    assert worker_pids({"worker": {"pid": 6}, "workers": {"each": [{"pid": 6}, {"pid": 5}, {"pid": 0}]}}) == [5, 6]
    assert worker_pids({}) == []


def test_ratios_are_formed_within_a_round() -> None:
    found = {
        ("vantun", "up"): [Transfer(100.0, 1.0, 0.0, 0), Transfer(200.0, 2.0, 0.0, 0)],
        ("wireguard-go", "up"): [Transfer(50.0, 4.0, 0.0, 0), Transfer(100.0, 8.0, 0.0, 0)],
    }
    text = summary(found)
    assert "vantun has 2.00x the rate, 4.00x the work" in text
    assert "150.0 Mbit/s" in text
