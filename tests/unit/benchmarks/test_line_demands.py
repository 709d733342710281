"""Ratios within rounds, verdicts and tables of the line laboratory."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import line
from benchmarks.line_demands import MISSED, NOT_MEASURED, REACHED, Case, Demand, Once, added, demands, ratios, values
from benchmarks.line_full import measures_of, subjects_of
from benchmarks.line_python import KERNELS, LINUX, OTHERS, PYTHON
from benchmarks.line_report import demand_table, draw, figure_table, markdown, medians, replace_section


def owners(python: float) -> dict[str, float]:
    """Return whose the time of workers was, a share of Python's and the rest divided."""
    return {KERNELS: (1 - python) / 2, LINUX: (1 - python) / 2, PYTHON: python, OTHERS: 0.0}


ROUNDS = [
    {
        "direct": {"tcp1_up_mbit": 9000.0, "rtt_idle_p50_us": 20.0},
        "vantun": {"tcp1_up_mbit": 3000.0, "tcp1_up_cpu": 0.1, "udp64_kpps": 200.0, "rtt_idle_p50_us": 70.0},
        "wireguard-go": {"tcp1_up_mbit": 1000.0, "tcp1_up_cpu": 0.5, "udp64_kpps": 150.0, "rtt_idle_p50_us": 120.0},
    },
    {
        "direct": {"tcp1_up_mbit": 9000.0, "rtt_idle_p50_us": 20.0},
        "vantun": {"tcp1_up_mbit": 1500.0, "tcp1_up_cpu": 0.2, "udp64_kpps": 200.0, "rtt_idle_p50_us": 70.0},
        "wireguard-go": {"tcp1_up_mbit": 500.0, "tcp1_up_cpu": 0.8},
    },
]


PROFILE = {
    "TCP up": {"client": owners(0.03), "server": owners(0.02)},
    "TCP down": {"client": owners(0.06), "server": owners(0.01)},
    "SOCKS5 up": {"client": owners(0.3), "server": owners(0.3)},
}


def test_a_ratio_is_of_one_round_and_of_both() -> None:
    assert ratios(ROUNDS, "vantun", "wireguard-go", "tcp1_up_mbit") == (3.0, 3.0)
    assert ratios(ROUNDS, "vantun", "wireguard-go", "tcp1_up_cpu", inverse=True) == (5.0, 4.0)
    assert ratios(ROUNDS, "vantun", "wireguard-go", "udp64_kpps") == (200 / 150,)
    assert ratios(ROUNDS, "vantun", "direct", "tcp1_up_cpu") == ()
    assert values(ROUNDS, "wireguard-go", "udp64_kpps") == (150.0,)


def test_what_a_tunnel_adds_is_compared_not_what_the_link_takes() -> None:
    assert added(ROUNDS, "vantun", "wireguard-go") == (0.5,)


def test_verdicts() -> None:
    good = Demand("x", 2.0, (Case("up", (2.5, 1.0, 2.1)),), stretch=3.0)
    assert (good.verdict, good.stretched, good.gap) == (REACHED, False, "")
    assert Demand("x", 2.0, (Case("up", (3.5,)),), stretch=3.0).stretched
    bad = Demand("x", 2.0, (Case("up", (2.5,)), Case("down", (1.5,))))
    assert (bad.verdict, bad.gap) == (MISSED, "25% short")
    much = Demand("x", 4.0, (Case("", (5.0,)),), unit="MB", least=False)
    assert (much.verdict, much.gap) == (MISSED, "1.25 times as much")
    assert Demand("x", 4.0, (Case("", (4.0,)),), least=False).verdict == REACHED
    assert Demand("x", 4.0, ()).verdict == NOT_MEASURED


def test_every_demand_of_the_issue_has_a_line() -> None:
    found = demands(ROUNDS, Once(memory={"server_mb": 70.0}, profile=PROFILE))
    by_text = {demand.text: demand for demand in found}
    assert len(found) == 17
    assert by_text["the same, work per CPU second"].verdict == REACHED
    assert by_text["memory of a started server, control and one worker, PSS"].verdict == REACHED
    assert by_text["one SOCKS5 stream vs Hysteria 2"].document()["why_not"] == "give --hysteria PATH"
    table = demand_table(found)
    assert "| up 3.00x | reached, and the stretch |" in table
    assert "| 64 B 1.33x | **missed**, 33% short |" in table
    assert "| <= 72.0 MB | 70.0 MB | reached |" in table
    assert "| <= 5.0 % | up 3.0 %, down 6.0 % | **missed**, 1.20 times as much |" in table


def test_medians_and_tables() -> None:
    assert medians(ROUNDS)["vantun"]["tcp1_up_mbit"] == 2250.0
    text = figure_table(medians(ROUNDS))
    assert "| vantun | 2,250 | - |" in text
    assert "PSS" in text
    assert "| hysteria |" not in figure_table({"hysteria": {"socks_up_mbit": 1.0, "pss_idle_mb": 20.0}})
    assert "Not measured:\n\n- openvpn: gone" in markdown([], ROUNDS, ["openvpn: gone"], {})
    assert "Not measured" not in markdown([], ROUNDS, [], {})


def test_a_profile_is_a_table() -> None:
    seal = {"name": "seal", "packets": 9, "ns_per_packet": 1234.5, "share": 0.25}
    rest = {"name": "(rest)", "packets": 0, "ns_per_packet": 0.0, "share": 0.75}
    text = markdown([], ROUNDS, [], {"vantun": {"up, client": [seal, rest], "up, server": [rest]}})
    assert "| stage | up, client | up, server |" in text
    assert "| TCP down, client | 47% | 47% | 6% | 0% |" in markdown([], ROUNDS, [], {}, PROFILE)
    assert "| seal | 25%, 1,234 ns/packet | - |\n| (rest) | 75% | 75% |" in text


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(ROUNDS, tmp_path / "line.svg", "here")
    assert "<svg" in (tmp_path / "line.svg").read_text(encoding="utf-8")


def test_the_section_of_the_docs_is_replaced() -> None:
    page = "a\n<!-- line x-1 -->\n\nold\n\n<!-- end: line x-1 -->\nb\n"
    assert replace_section(page, r"new \1", "x-1") == page.replace("old", "new \\1")
    both = replace_section(page, "other", "y.2")
    assert both == page.replace("b\n", "\n<!-- line y.2 -->\n\nother\n\n<!-- end: line y.2 -->\nb\n")
    assert replace_section(both, "newer", "x-1") == both.replace("old", "newer"), "another machine's table stays"
    with pytest.raises(ValueError, match="must stand there once"):
        replace_section(page * 2, "new", "x-1")
    with pytest.raises(ValueError, match="with the name of a machine"):
        replace_section("a\n", "new", "x-1")
    assert replace_section(line.PAGE.read_text(encoding="utf-8"), "new", "x-1").count("<!-- line ") >= 2


def test_who_takes_part(tmp_path: Path) -> None:
    names = [it.name for it, _ in subjects_of(line.options_of([]))]
    assert names[:2] == ["direct", "vantun"]
    assert {"vantun-2paths-fec25", "wireguard-go-debian", "openvpn", "vantun-software"} <= set(names)
    assert not {"wireguard-go", "hysteria", "kcptun"} & set(names)
    (tmp_path / "x").touch()
    given = [
        word
        for name in ("wireguard-go", "hysteria", "kcptun-client", "kcptun-server")
        for word in (f"--{name}", str(tmp_path / "x"))
    ]
    more = {it.name for it, _ in subjects_of(line.options_of(given))}
    assert {"wireguard-go", "wireguard-go-software", "hysteria", "kcptun"} <= more
    assert "vantun-software" not in {it.name for it, _ in subjects_of(line.options_of(["--profile", "software"]))}


def test_what_is_compared_is_measured_in_every_round() -> None:
    everything = ("tcp1", "tcp8", "udp", "rtt")
    assert measures_of("vantun", everything, 2) == everything
    assert measures_of("openvpn", everything, 0) == everything
    assert measures_of("openvpn", everything, 1) == ("tcp1",)
    assert measures_of("hysteria", ("socks",), 1) == ("socks",)
