"""``vantun doctor``: look at this machine and say what is in the tunnel's way, with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import click

from vantun.cli import render
from vantun.errors import EXIT_DEGRADED, EXIT_FAILURE, EXIT_OK


@click.command("doctor", short_help="Examine this machine; every finding comes with the command that mends it.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Examine it for this server or client.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--strict", is_flag=True, help="Exit with 3 for a warning, too.")
def command(file: Path | None, as_json: bool, strict: bool) -> int:  # noqa: FBT001 - click's calling convention
    """Look at kernel, buffers, offloads, permissions, MTU, clock and installed packages. Changes nothing.

    Exits with 1 when something will not work, else with 0.
    """
    from vantun.doctor.examine import examine
    from vantun.doctor.finding import Level, worst

    findings = examine(_load(file))
    if as_json:
        render.json([finding.document() for finding in findings])
    else:
        rows = [(each.level.value, each.subject, each.text, each.fix or render.MISSING) for each in findings]
        render.show(render.table("", ("", "what", "found", "to mend it"), rows))
        bad = sum(each.level in (Level.WARNING, Level.PROBLEM) for each in findings)
        render.line("nothing is in the way" if not bad else f"{bad} thing(s) to mend")
    found = worst(findings)
    if found is Level.PROBLEM:
        return EXIT_FAILURE
    return EXIT_DEGRADED if strict and found is Level.WARNING else EXIT_OK


def _load(file: Path | None):  # type: ignore[no-untyped-def] # ServerConfig | ClientConfig | None, imported when used
    if file is None:
        return None
    from vantun.config import load_client, load_server
    from vantun.config_schema import role_of

    return load_server(file) if role_of(file) == "server" else load_client(file)
