"""``vantun accel``: which engines this machine has for parity and encryption, and which of them serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli import accel_bench, render
from vantun.cli.accel_warm import warm
from vantun.errors import EXIT_DEGRADED, EXIT_OK

if TYPE_CHECKING:
    from accel.registry import EngineReport, Preferences, Survey


@click.group("accel", short_help="Show the engines that compute parity and encryption.")
def command() -> None:
    """Look at the engines of this machine, and prepare them."""


command.add_command(warm)
command.add_command(accel_bench.command)


@command.command("probe", short_help="List every engine: what is there, what is usable, what serves.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Select as this server or client would.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verbose", is_flag=True, help="Also say what was looked for, and what was seen.")
@click.option("--strict", is_flag=True, help="Exit with 3 when an engine that should serve cannot.")
def probe(file: Path | None, as_json: bool, verbose: bool, strict: bool) -> int:  # noqa: FBT001
    """Look for every engine that VANTUN knows, test those that this version has, and say which of them serve.

    Loads no library of a vendor and opens no device. The first run compiles kernels, which takes a few seconds.
    """
    from accel.registry import survey

    found = survey(preferences(file))
    if as_json:
        render.json(document(found))
    else:
        show(found, verbose=verbose)
    return EXIT_DEGRADED if strict and found.degraded else EXIT_OK


def preferences(file: Path | None) -> Preferences:
    """Return the preferences of a configuration file; without one, the defaults."""
    from accel.registry import Preferences

    if file is None:
        return Preferences()
    from vantun.config import load_client, load_server
    from vantun.config_schema import role_of

    wanted = (load_server(file) if role_of(file) == "server" else load_client(file)).accel
    return Preferences(fec=wanted.fec, aead=wanted.aead, allow_emulated=wanted.allow_emulated)


def document(found: Survey) -> dict[str, object]:
    """Return the survey as JSON."""
    return {
        "engines": [report.document() for report in found.reports],
        "selected": {
            operation.value: {"engine": choice.engine.name, "reason": choice.reason, "degraded": choice.degraded}
            for operation, choice in found.chosen.items()
        },
        "problems": list(found.problems),
        "degraded": found.degraded,
    }


_COLUMNS = (
    "engine", "kind", "present", "usable", "selected for", "provenance", "maturity", "reason", "next step",
)  # fmt: skip


def show(found: Survey, *, verbose: bool) -> None:
    """Print the survey as tables."""
    render.show(render.table("", _COLUMNS, map(_cells, found.reports)))
    for operation, choice in found.chosen.items():
        render.line(f"{operation.value}: {choice.engine.name}, {choice.reason}")
    for problem in found.problems:
        render.warning(problem)
    if verbose:
        render.show(
            render.table("What was looked for", ("engine", "through", "seen", "not seen"), map(_looks, found.reports))
        )


def _cells(report: EngineReport) -> tuple[str, ...]:
    return (
        report.name,
        ", ".join(kind.value for kind in report.kinds),
        "yes" if report.present else "no",
        "yes" if report.usable else "no",
        ", ".join(operation.value for operation in report.selected) or render.MISSING,
        report.provenance.value,
        report.maturity.value,
        report.reason,
        report.next_step,
    )


def _looks(report: EngineReport) -> tuple[str, ...]:
    seen, missing = ("\n".join(texts) or render.MISSING for texts in (report.seen, report.missing))
    return report.name, report.through, seen, missing
