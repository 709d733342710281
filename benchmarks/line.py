"""VANTUN and other tunnels between two namespaces, in one interleaved run: ``./dev bench line``.

Needs root. Two namespaces are joined by veth pairs; the processes of one side, and its iperf3, share core 0, those of
the other side core 1 (``--no-pin``: all run where they like). Every subject takes its turn once in every round, and
ratios are formed within a round. It prints tables, and writes them with all figures to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import line_loss, line_machines, line_memory, line_profile, line_workers
from benchmarks.line_demands import Once, demands
from benchmarks.line_full import Lab, Rounds, run_rounds, subjects_of
from benchmarks.line_quick import quick
from benchmarks.line_report import draw, markdown, medians, replace_section
from benchmarks.line_soak import soak
from benchmarks.line_town import PROFILES, LineError, Town
from benchmarks.report import RESULTS, ROOT, circumstances, machine_name, result_name, save_at
from drivers.errors import DriverError
from vantun.errors import VantunError

PAGE = ROOT / "docs" / "measurements.md"
README = ROOT / "README.md"
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BINARIES = ("wireguard_go", "hysteria", "kcptun_client", "kcptun_server")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench line", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="direct, vantun without FEC and wireguard-go; TCP only")
    parser.add_argument(
        "--soak",
        type=float,
        nargs="?",
        const=60.0,
        default=0.0,
        metavar="S",
        help="correctness under speed for S seconds instead (default: 60)",
    )
    parser.add_argument(
        "--loss", type=float, default=0.0, metavar="PERCENT", help="one TCP stream over links that lose so many packets"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="of each transfer (default: 2; quick: 3)")
    parser.add_argument("--rounds", type=int, default=0, help="turns of every subject (default: 3; quick: 1)")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these subjects only")
    parser.add_argument("--profile", choices=PROFILES, default="offload", help="software: without USO on the links")
    parser.add_argument(
        "--workers", type=int, default=0, help="data workers of each end of VANTUN (default: its choice)"
    )
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let every process run on any core")
    parser.add_argument("--wireguard-go", type=Path, metavar="PATH", help="a binary of December 2023 or newer")
    parser.add_argument("--hysteria", type=Path, metavar="PATH", help="a binary of Hysteria 2")
    parser.add_argument("--kcptun-client", type=Path, metavar="PATH", help="a binary of kcptun's client")
    parser.add_argument("--kcptun-server", type=Path, metavar="PATH", help="and of its server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write here, and FILE with .md and .svg")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="put the tables into docs/measurements.md and README.md, too, in place of this machine's",
    )
    options = parser.parse_args(arguments)
    for name in _BINARIES:
        path = getattr(options, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name.replace('_', '-')}: there is no file {path}")
    if bool(options.kcptun_client) != bool(options.kcptun_server):
        parser.error("--kcptun-client and --kcptun-server go together")
    if options.seconds < 0 or options.rounds < 0 or options.workers < 0:
        parser.error("--seconds, --rounds and --workers must not be negative")
    if not 0 <= options.loss < 50:
        parser.error("--loss must be a percentage below 50")
    if options.loss:
        options.profile = "software"  # each packet is to be lost by itself
    options.only = [name for name in options.only.split(",") if name]
    return options


def measure(town: Town, options: argparse.Namespace) -> dict[str, object]:
    """Run all rounds, then what is measured once; return the document without circumstances."""
    subjects_of(options)  # a wrong name is told before anything starts
    once = Once()
    lab = Lab.open(town, options.seconds or 2.0)
    found = run_rounds(lab, options)
    if not options.only:
        _once(lab, found, once)
    judged = demands(found.rounds, once)
    text = markdown(judged, found.rounds, found.problems, found.profiles, once.profile)
    print("\n" + text)
    return {
        "what": "tunnels between two namespaces on one machine, which also runs both ends of iperf3",
        "provenance": "cpu",
        "pinned": town.pinned,
        "profile": options.profile,
        "workers_wanted": options.workers,
        "subjects": {name: getattr(options, name) is not None for name in _BINARIES},
        "demands": [demand.document() for demand in judged],
        "medians": medians(found.rounds),
        "profiles": found.profiles,
        "owners": once.profile,
        "memory": once.memory,
        "workers": once.workers,
        "problems": found.problems,
        "rounds": found.rounds,
        "table": text,
    }


def _once(lab: Lab, found: Rounds, once: Once) -> None:
    try:
        once.memory = line_memory.measure(lab)
        print(f"memory {once.memory}", flush=True)
    except (LineError, OSError) as error:
        found.problems.append(f"memory: {error}")
    try:
        once.profile = line_profile.measure(lab)
    except (LineError, OSError) as error:
        found.problems.append(f"whose the workers' time is: {error}")
    try:
        once.workers = line_workers.measure(1.0, 5)
        print(f"workers {once.workers}", flush=True)
    except (RuntimeError, OSError, ValueError) as error:
        found.problems.append(f"workers: {error}")


def save(document: dict[str, object], options: argparse.Namespace) -> None:
    """Write figures, tables and the picture, and the section of the docs if asked for."""
    facts = circumstances()
    text = str(document.pop("table"))
    path = options.json or result_name("line")
    head = (
        f"{facts['cpu']}, {facts['cores']} cores, kernel {facts['kernel']}, commit {facts['commit']}, {facts['date']}; "
    )
    head += (
        f"{'each side on a core' if document['pinned'] else 'not pinned'}; load before: {facts['load_before']:.2f}.\n\n"
    )
    save_at(path, {**facts, **document}, f"# Line rate\n\n{head}{text}")
    rounds = document["rounds"]
    assert isinstance(rounds, list)
    try:
        draw(rounds, path.with_suffix(".svg"), f"{facts['cpu']}, {facts['cores']} cores, commit {facts['commit']}")
    except DriverError as error:
        print(f"no picture: {error}")
    if options.docs:
        picture = f"![line rate](../benchmarks/results/{path.with_suffix('.svg').name})\n"
        section = f"**{machine_name()}.** {head}{text}\n{picture}\nAll figures: `{path.name}`."
        show(section)
    print(f"{path.name}, .md and .svg written")


def show(section: str) -> None:
    """Put a section for this machine, and the tables of all machines, into the docs and the README."""
    machines = line_machines.newest(RESULTS)
    page = replace_section(PAGE.read_text(encoding="utf-8"), section, machine_name())
    page = replace_section(page, line_machines.table(machines), line_machines.SECTION)
    PAGE.write_text(page, encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    short = line_machines.table(machines, short=True)
    README.write_text(replace_section(readme, short, line_machines.SECTION), encoding="utf-8")


def save_soak(document: dict[str, object], options: argparse.Namespace) -> int:
    """Write what a soak has seen; return 1 if a check has failed."""
    facts = circumstances()
    path = options.json or result_name("line-soak")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "provenance": "cpu", **document}, indent=2) + "\n", encoding="utf-8")
    checks = document["checks"]
    assert isinstance(checks, dict)
    for name, held in checks.items():
        print(f"{'ok    ' if held else 'FAILED'} {name}")
    print(f"{path.name} written")
    return int(bool(document["failed"]))


def save_loss(document: dict[str, object], options: argparse.Namespace) -> int:
    """Write what a lossy run has shown; return 1 if something could not be measured."""
    facts = circumstances()
    path = options.json or result_name("line-loss")
    text = str(document.pop("table"))
    head = f"{facts['cpu']}, {facts['cores']} cores, kernel {facts['kernel']}, commit {facts['commit']}, "
    head = f"# Line rate with loss\n\n{document['what']}: {head}{facts['date']}.\n\n"
    save_at(path, {**facts, **document}, head + text)
    print(f"\n{text}\n{path.name} and .md written")
    return int(bool(document["problems"]))


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in _ENDS:  # a second one must not stop the cleaning
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; whatever happens, nothing is left behind."""
    options = options_of(arguments)
    for number in _ENDS:  # SIGINT, too: started in the background it would be ignored
        signal.signal(number, _interrupt)
    began = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="vantun-line-") as folder,
            Town(Path(folder), links=1 if options.quick else 2, profile=options.profile, pin=options.pin) as town,
        ):
            if options.quick:
                return quick(town, options)
            if options.soak:
                return save_soak({"seconds": options.soak, **soak(town, options.soak, options.workers)}, options)
            if options.loss:
                return save_loss(line_loss.measure(town, options), options)
            document = measure(town, options)
    except VantunError as error:
        print(f"line: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("line: interrupted; everything was removed", file=sys.stderr)
        return 130
    document["seconds"] = round(time.monotonic() - began, 1)
    save(document, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
