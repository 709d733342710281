"""``vantun accel probe``: every engine and operation, what became of it, how fast it is, and what it is used for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli import render
from vantun.cli.accel_option import accel_option
from vantun.cli.accel_wishes import config_of, registry_of
from vantun.errors import EXIT_DEGRADED, EXIT_OK, VantunError

if TYPE_CHECKING:
    from accel.profile import NoProfile, Profile
    from accel.registry import Survey
    from accel.report import EngineReport, OperationReport
    from vantun.config_accel import AccelConfig

DEEP_SECONDS = 10.0
"""CPU time of a measurement that somebody waits for."""


@click.command("probe", short_help="List every engine: what is there, what is usable, how fast it is, what serves.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Select as this server or client would.")
@accel_option
@click.option("--deep", is_flag=True, help="Measure every engine now, and keep that; takes about 15 seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verbose", is_flag=True, help="Also say what was looked for, and what was seen.")
@click.option("--strict", is_flag=True, help="Exit with 3 when an engine that should serve cannot.")
def command(file: Path | None, accel: str | None, deep: bool, as_json: bool, verbose: bool, strict: bool) -> int:  # noqa: FBT001
    """Look for every engine that VANTUN knows, test those that this version has, and say which of them serve.

    Libraries of others are loaded in a child process only. Figures are those of the last measurement: a running
    appliance measures when it knows nothing of this machine, --deep does at once.
    """
    config = config_of(file, accel)
    if deep:
        measure(config)
    registry, known = registry_of(config)
    from vantun.accel_choice import preferences

    found = registry.survey(preferences(config))
    if as_json:
        render.json(document(found, known))
    else:
        show(found, known, verbose=verbose)
    return EXIT_DEGRADED if strict and found.degraded else EXIT_OK


def measure(config: AccelConfig) -> None:
    """Measure every engine in a child process, which writes the profile. Raises VantunError."""
    from accel.child import environment
    from vantun.accel_known import calibration_command

    line = calibration_command(config, "--budget", str(DEEP_SECONDS))
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise VantunError(f"engines could not be measured: the child process ended with {done.returncode}: {last}")


def document(found: Survey, known: Profile | NoProfile) -> dict[str, object]:
    """Return the survey as JSON."""
    return {
        "engines": [report.document() for report in found.reports],
        "selected": {
            operation.value: {
                "engine": choice.engine.name,
                "reason": choice.reason,
                "degraded": choice.degraded,
                "engines": choice.names,
            }
            for operation, choice in found.chosen.items()
        },
        "measured_at": getattr(known, "measured_at", None),
        "not_measured": getattr(known, "reason", ""),
        "problems": list(found.problems),
        "degraded": found.degraded,
    }


_COLUMNS = (
    "engine", "operation", "state", "self-test", "provenance", "maturity", ">ns/packet", ">GB/s", "selected for",
    "next step",
)  # fmt: skip
_AGAIN = "″"
"""Stands for what the row above says at length."""
_LONG = 24


def show(found: Survey, known: Profile | NoProfile, *, verbose: bool) -> None:
    """Print the survey as tables."""
    rows: list[tuple[str, ...]] = []
    for report in found.reports:
        before: tuple[str, ...] = ("",) * len(_COLUMNS)
        for each in report.operations:
            cells = _cells(report, each)
            pairs = zip(cells, before, strict=True)
            rows.append(tuple(_AGAIN if text == last and len(text) > _LONG else text for text, last in pairs))
            before = cells
    render.show(render.table("", _COLUMNS, rows))
    figures = "ns/packet and GB/s: in batches of 1 / 32 / 256, packets of 1350 B and spans (10,4) of 1200 B"
    render.line(figures if known else f"nothing was measured: {getattr(known, 'reason', '')}; --deep measures now")
    for operation, choice in found.chosen.items():
        render.line(f"{operation.value}: {choice.engine.name}, {choice.reason}")
    for problem in found.problems:
        render.warning(problem)
    if verbose:
        render.show(
            render.table(
                "What was looked for", ("engine", "present", "through", "seen", "not seen"), map(_looks, found.reports)
            )
        )


def _cells(report: EngineReport, each: OperationReport) -> tuple[str, ...]:
    from accel.report import SHOWN

    cells = [each.cells.get(batch) for batch in SHOWN] if each.cells else []
    outcome = f"{each.self_test} " if each.self_test else ""
    return (
        report.name,
        each.operation.value,
        each.state.value,
        outcome + each.reason.removeprefix("self-test passed "),
        report.provenance.value,
        report.maturity.value,
        "/".join(f"{cell.ns_per_row:.0f}" if cell else render.MISSING for cell in cells) or render.MISSING,
        "/".join(render.number(cell.gigabytes if cell else None, 1) for cell in cells) or render.MISSING,
        each.selected or render.MISSING,
        report.next_step,
    )


def _looks(report: EngineReport) -> tuple[str, ...]:
    seen, missing = ("\n".join(texts) or render.MISSING for texts in (report.seen, report.missing))
    return report.name, "yes" if report.present else "no", report.through, seen, missing
