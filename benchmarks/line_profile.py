"""Whose the time of VANTUN's workers is: at full rate, through the proxy and at a given rate; once a run, by perf."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.line_full import Lab, offered, socks
from benchmarks.line_measure import transfer
from benchmarks.line_python import OWNERS, Samples
from benchmarks.line_stages import worker_pids
from benchmarks.line_subjects import Running, Vantun

Shares = dict[str, dict[str, dict[str, float]]]
"""Of the workers' busy time, by what was done, and role: that of each of OWNERS."""
TCP = "TCP"
"""What one stream of iperf3 is called, followed by its direction."""
_ROLES = {"a": "client", "b": "server"}
_BRIDGED: dict[str, Callable[[Lab, Running], object]] = {
    f"{TCP} up": lambda lab, running: transfer(lab.town, running, lab.seconds, 1, down=False),
    f"{TCP} down": lambda lab, running: transfer(lab.town, running, lab.seconds, 1, down=True),
    "SOCKS5 up": lambda lab, running: socks(lab, running, ("up",)),
    "SOCKS5 down": lambda lab, running: socks(lab, running, ("down",)),
}
_PACED: dict[str, Callable[[Lab, Running], object]] = {"100 Mbit/s of UDP, FEC 20 %": offered}


def measure(lab: Lab) -> Shares:
    """Return whose time it was.

    Raises
    ------
    LineError
        When the laboratory fails, or there is no perf.
    """
    found: Shares = {}
    for subject, cases in ((Vantun(), _BRIDGED), (Vantun(1, 20), _PACED)):
        try:
            running = subject(lab.town)
            for name, act in cases.items():
                found[name] = _sampled(lab, running, act)
        finally:
            lab.town.end_others(lab.ends)
    return found


def _sampled(lab: Lab, running: Running, act: Callable[[Lab, Running], object]) -> dict[str, dict[str, float]]:
    """Do something and say whose time it was, from its beginning on for as long as a transfer is."""
    samples = {
        side: Samples(worker_pids(running.status(side)), lab.seconds, lab.town.folder / f"perf-{side}.data")
        for side in running.sockets
    }
    act(lab, running)
    return {
        _ROLES[side]: {owner: round(share, 3) for owner, share in each.shares().items()}
        for side, each in samples.items()
    }


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return it as Markdown."""
    lines = [f"| | {' | '.join(OWNERS)} |", "|---" * (1 + len(OWNERS)) + "|"]
    for name, roles in found.items():
        for role, row in roles.items():
            lines.append(f"| {name}, {role} | {' | '.join(f'{row[owner]:.0%}' for owner in OWNERS)} |")
    return "\n".join(lines) + "\n"
