"""Every figure that is demanded of the CPU engines, in one run: ``./dev bench engines [fec|aead|crc|cost ...]``.

One thread on one CPU. All ratios are interleaved (accel/bench/contest.py): median and quartiles of the ratios of single
rounds. It prints a Markdown table and writes it, with all figures as JSON, to benchmarks/results/. The opponents'
calls are made by a loop in C (needs a C compiler); what is not installed is named in its row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accel.bench.contest import Effort, pinned
from benchmarks import engines_aead, engines_cost, engines_crc, engines_fec, engines_python
from benchmarks.engines_field import WRONG
from benchmarks.engines_rows import REQUIREMENTS, Judgement, Row, judge, markdown
from benchmarks.report import circumstances, result_name, save_at
from drivers.cpu import read_cpu
from drivers.kernel import library
from drivers.kernel_library import KernelLibrary
from vantun.kernel_cache import use_kernel_cache

AREAS = tuple(REQUIREMENTS)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench engines", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"{', '.join(AREAS)}; default: all")
    parser.add_argument("--isal", type=Path, help="path of libisal.so of ISA-L 2.32, built with GFNI")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each contest, about (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write here, and FILE with .md; '-' = print only")
    options = parser.parse_args(arguments)
    strange = [area for area in options.areas if area not in AREAS]
    if strange:
        parser.error(f"there is no area {strange[0]!r}; there are {', '.join(AREAS)}")
    if options.isal is not None and not options.isal.is_file():
        parser.error(f"--isal: there is no file {options.isal}")
    if options.seconds <= 0:
        parser.error("--seconds must be positive")
    options.areas = [area for area in AREAS if area in options.areas] or list(AREAS)
    return options


def measure(areas: Sequence[str], isal: Path | None, effort: Effort) -> list[Judgement]:
    """Measure some areas."""
    programs: dict[str, Callable[[], list[Row]]] = {
        "fec": lambda: engines_fec.measure(engines_fec.find_libraries(isal), effort),
        "aead": lambda: engines_aead.measure(effort),
        "crc": lambda: engines_crc.measure(effort),
        "cost": lambda: engines_cost.measure(effort),
    }
    rows = []
    with pinned():
        for area in areas:
            rows += programs[area]()
    return judge(areas, rows)


def kernels() -> str:
    """Return whether the kernels come from a library, or are compiled here, and why."""
    found = library()
    if isinstance(found, KernelLibrary):
        return f"library, {found.level}"
    return f"compiled in this process: {found.reason}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return 1 when somebody came to a wrong result."""
    options = options_of(arguments)
    use_kernel_cache()
    facts = circumstances()
    began = time.monotonic()
    judgements = measure(options.areas, options.isal, Effort(budget_s=options.seconds))
    results: dict[str, object] = {
        **facts,
        "what": "CPU engines against the best C, one thread, interleaved ratios",
        "provenance": "cpu",
        "cpu_flags": sorted(read_cpu().flags),
        "kernels": kernels(),
        "others": engines_python.version(),
        "seconds": round(time.monotonic() - began, 1),
        "requirements": [judgement.document() for judgement in judgements],
    }
    table = markdown(judgements)
    wrong = int(any(row.reason.startswith(WRONG) for judgement in judgements for row in judgement.rows))
    print(table)
    if str(options.json) == "-":
        print(json.dumps(results, indent=2))
        return wrong
    head = f"# Engines\n\n{facts['cpu']}, kernel {facts['kernel']}, commit {facts['commit']}, {facts['date']}; "
    head += f"kernels: {results['kernels']}; load before: {facts['load_before']:.2f}.\n\n"
    path = save_at(options.json or result_name("engines"), results, head + table)
    print(f"{path} and {path.with_suffix('.md').name} written")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
