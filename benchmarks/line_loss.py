"""One TCP stream where packets are lost: ``./dev bench line --loss PERCENT``.

Every link loses that share of its packets at either end, each by itself, so offloads of the links are off. VANTUN runs
with FEC off (what is lost is sent again), with what it chooses itself, and with a tenth of standing parity.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack

from benchmarks.line_bpf import Loss
from benchmarks.line_full import MEASURES, Lab, Values
from benchmarks.line_peers import OpenVpn, WireGuard
from benchmarks.line_report import figure_table, medians
from benchmarks.line_subjects import Subject, Vantun
from benchmarks.line_town import LineError, Town

_COLUMNS = (
    ("tcp1_up_mbit", "up, Mbit/s", "{:,.0f}"),
    ("tcp1_down_mbit", "down", "{:,.0f}"),
    ("tcp1_up_cpu", "CPU s/Gbit up", "{:.3f}"),
    ("tcp1_down_cpu", "down", "{:.3f}"),
    ("tcp1_up_again", "segments that the stream sent again, up", "{:,.0f}"),
    ("tcp1_down_again", "down", "{:,.0f}"),
)
_OURS = "vantun"


def subjects_of(options: argparse.Namespace) -> list[Subject]:
    """Return who takes part."""
    found = [
        Subject("vantun-fec-off", Vantun()),
        Subject(_OURS, Vantun(more={"fec": {"mode": "on"}})),
        Subject("vantun-fec10", Vantun(overhead=10)),
    ]
    if options.wireguard_go:
        found.append(Subject("wireguard-go", WireGuard(str(options.wireguard_go.resolve()))))
    found += [Subject("wireguard-go-debian", WireGuard()), Subject("openvpn", OpenVpn())]
    names = {subject.name for subject in found}
    if strange := sorted(set(options.only) - names):
        raise LineError(f"there is no subject {strange[0]!r}; there are {', '.join(sorted(names))}")
    return [subject for subject in found if not options.only or subject.name in options.only]


def measure(town: Town, options: argparse.Namespace) -> dict[str, object]:
    """Run all rounds; return the document without circumstances."""
    subjects = subjects_of(options)
    lab = Lab.open(town, options.seconds or 2.0)
    rounds: list[dict[str, Values]] = []
    problems: list[str] = []
    with ExitStack() as stack:
        for side in "ab":
            stack.enter_context(Loss(town, side, options.loss / 100))
        for number in range(options.rounds or 3):
            rounds.append({})
            for subject in subjects:
                values = rounds[-1][subject.name] = _turn(lab, subject, problems)
                told = f"up {values['tcp1_up_mbit']:.0f}, down {values['tcp1_down_mbit']:.0f} Mbit/s" if values else "-"
                print(f"round {number + 1} {subject.name:24}{told}", flush=True)
    return {
        "what": f"one TCP stream through tunnels over a link that loses {options.loss:g} % of its packets",
        "provenance": "cpu",
        "pinned": town.pinned,
        "loss_percent": options.loss,
        "medians": medians(rounds),
        "problems": problems,
        "rounds": rounds,
        "table": table(rounds, problems),
    }


def _turn(lab: Lab, subject: Subject, problems: list[str]) -> Values:
    try:
        return MEASURES["tcp1"](lab, subject.start(lab.town))
    except (LineError, OSError, KeyError, ValueError) as error:
        problems.append(f"{subject.name}: {error}")
        return {}
    finally:
        lab.town.end_others(lab.ends)


def table(rounds: list[dict[str, Values]], problems: list[str]) -> str:
    """Return medians, and how often as fast as each of the others VANTUN was, by the median of ratios of one round."""
    lines = [figure_table(medians(rounds), _COLUMNS)]
    for name in dict.fromkeys(name for each in rounds for name in each if not name.startswith(_OURS)):
        told = []
        for way in ("up", "down"):
            measure_name = f"tcp1_{way}_mbit"
            pairs = [(each.get(_OURS, {}).get(measure_name), each.get(name, {}).get(measure_name)) for each in rounds]
            ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
            if ratios:
                told.append(f"{way} {statistics.median(ratios):.2f}x")
        if told:
            lines.append(f"{_OURS} has {', '.join(told)} the rate of {name}.")
    return "\n".join([*lines, *(f"Not measured: {problem}" for problem in problems)]) + "\n"
