"""VANTUN and other tunnels between two namespaces, in one interleaved run: ``./dev bench line [--quick]``.

Needs root. Two namespaces are joined by veth pairs; the processes of one side, and its iperf3, share core 0, those of
the other side core 1 (``--no-pin``: all run where they like). Every subject takes its turn once in every round.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.line_quick import quick
from benchmarks.line_town import PROFILES, Town


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench line", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="direct, vantun without FEC and wireguard-go; TCP only")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each transfer (default: 2; quick: 3)")
    parser.add_argument("--rounds", type=int, default=0, help="turns of every subject (default: 3; quick: 1)")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these subjects only")
    parser.add_argument("--profile", choices=PROFILES, default="offload", help="software: without USO on the links")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let every process run on any core")
    parser.add_argument("--wireguard-go", type=Path, metavar="PATH", help="a binary of December 2023 or newer")
    options = parser.parse_args(arguments)
    if options.wireguard_go is not None and not options.wireguard_go.is_file():
        parser.error(f"--wireguard-go: there is no file {options.wireguard_go}")
    if options.seconds < 0 or options.rounds < 0:
        parser.error("--seconds and --rounds must not be negative")
    options.only = [name for name in options.only.split(",") if name]
    return options


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; whatever happens, nothing is left behind."""
    options = options_of(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="vantun-line-") as folder:
        town = Town(Path(folder), links=1, profile=options.profile, pin=options.pin)
        with town:
            return quick(town, options)


if __name__ == "__main__":
    sys.exit(main())
