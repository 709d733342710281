"""``vantun accel explain``: which engine would do an operation here, why, and what would change that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli import render
from vantun.cli.accel_option import accel_option
from vantun.cli.accel_wishes import config_of, registry_of
from vantun.errors import EXIT_OK, VantunError

if TYPE_CHECKING:
    from accel.engine import Operation
    from accel.registry import Choice, Preferences, Registry

OPERATIONS = ("fec.encode", "fec.decode", "aead.seal", "aead.open")
_SIZES = {"fec": 1200, "aead": 1350}
_CHOSEN = ("engine", "rows", ">largest batch", "chosen for batches")


@click.command("explain", short_help="Say which engine would do an operation, why, and what would change it.")
@click.argument("operation", type=click.Choice(OPERATIONS))
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="Select as this server or client would.")
@accel_option
@click.option("--size", type=click.IntRange(1, 65536), help="Bytes of a packet or shard. [default: 1350, fec 1200]")
@click.option("--units", type=click.IntRange(1, 128), default=10, show_default=True, help="Data shards of a span: fec.")
@click.option("--batch", type=click.IntRange(1, 65536), default=64, show_default=True, help="Packets, or spans.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: Path | None,
    operation: str,
    accel: str | None,
    size: int | None,
    units: int,
    batch: int,
    as_json: bool,  # noqa: FBT001
) -> int:
    """Say which engine would do OPERATION on a batch of rows of a size, and compare it with the others."""
    from accel.engine import Operation

    config = config_of(file, accel)
    registry, known = registry_of(config)
    from vantun.accel_choice import preferences

    row = size or _SIZES[operation.split(".")[0]], units if operation.startswith("fec.") else 1
    told = explain(registry, preferences(config), Operation(operation), row, batch)
    if not known:
        told["not_measured"] = getattr(known, "reason", "")
    if as_json:
        render.json(told)
    else:
        show(told)
    return EXIT_OK


def explain(
    registry: Registry, wanted: Preferences, operation: Operation, row: tuple[int, int], batch: int
) -> dict[str, object]:
    """Return who would serve, why, what the others measured, and what would change it, as JSON. Raises VantunError.

    ``row`` is the size of a packet or shard, and how many data shards a span has (1 for packets).
    """
    from dataclasses import replace

    from accel.planning import Goal
    from accel.ranges import ranges
    from vantun.dataplane.sizes import most_rows

    found = registry.survey(wanted)
    choice = found.chosen.get(operation)
    if choice is None:
        raise VantunError("; ".join(found.problems) or f"no engine can do {operation.value}")
    size, units = row
    weight = size * units
    engine, reason, start = _step(choice, weight, batch)
    cells = registry.profile.of(operation) if registry.profile is not None else []
    others = [
        {"goal": goal.value, "engine": _step(again.chosen[operation], weight, batch)[0]}
        for goal in Goal
        if goal is not wanted.goal and operation in (again := registry.survey(replace(wanted, goal=goal))).chosen
    ]
    return {
        "operation": operation.value,
        "size": size,
        "units": units,
        "batch": batch,
        "engine": engine,
        "reason": reason,
        "goal": wanted.goal.value,
        "serves_from_batch": max(start, 1),
        "engines": [
            _row(registry, report.name, operation, weight, batch)
            | {"state": each.state.value, "self_test": each.self_test, "reason": each.reason}
            | {"kernels": list(each.kernels)}
            for report in found.reports
            for each in report.operations
            if each.operation is operation and (each.self_test or report.present)
        ],
        "ladder": [
            {"from_bytes": from_bytes, "from_batch": max(begin, 1), "engine": pick.engine}
            for from_bytes, ladder in choice.plan.items()
            for begin, pick in ladder
        ],
        "chosen_for": [
            each.document()
            for each in ranges(found, operation, cells, wanted.goal, lambda shape: most_rows(operation, shape.k))
        ],
        "other_goals": others,
        "spares": [spare.name for spare in choice.spares],
    }


def _step(choice: Choice, weight: int, batch: int) -> tuple[str, str, int]:
    """Return (engine, reason, from which batch on) for one batch."""
    ladder = choice.plan[max(each for each in choice.plan if each <= weight)]
    start, pick = [step for step in ladder if step[0] <= batch][-1]
    passed_over = choice.reason.partition("; passed over: ")[2]
    return pick.engine, pick.reason + (f"; passed over: {passed_over}" if passed_over else ""), start


def _row(registry: Registry, name: str, operation: Operation, weight: int, batch: int) -> dict[str, object]:
    """Return what was measured of an engine, nearest to a batch and the weight of its rows."""
    cells = registry.profile.of(operation, name) if registry.profile is not None else []
    below = [cell for cell in cells if cell.batch <= batch] or cells[:1]
    near = [cell for cell in below if cell.batch == max(each.batch for each in below)]
    cell = min(near, key=lambda each: abs(each.row_octets - weight)) if near else None
    if cell is None:
        return {"engine": name, "measured": None}
    figures = {
        "shape": cell.shape,
        "batch": cell.batch,
        "wall_ns_per_packet": round(cell.ns_per_row, 1),
        "cpu_ns_per_packet": round(cell.cpu_ns / cell.batch, 1),
        "p99_ns": round(cell.p99_ns),
        "gb_per_s": round(cell.gigabytes, 3),
    }
    return {"engine": name, "measured": figures}


def show(told: dict[str, object]) -> None:
    """Print what :func:`explain` returns."""
    shape = f"{told['units']} x " if str(told["operation"]).startswith("fec.") else ""
    render.line(
        f"{told['operation']}, {told['batch']} x {shape}{told['size']} B: {told['engine']}, {told['reason']} "
        f"(goal {told['goal']})"
    )
    columns = (
        "engine",
        "state",
        "self-test",
        "measured",
        ">ns/packet",
        ">CPU ns",
        ">p99 of a batch",
        ">GB/s",
        "reason",
    )
    rows = told["engines"]
    assert isinstance(rows, list)
    render.show(render.table("", columns, map(_cells, rows)))
    for row in rows:
        if row.get("kernels"):
            render.line(f"Kernels that {row['engine']} has tried here, and which serve:")
            for each in row["kernels"]:
                render.line(f"  {each}")
    render.show(render.table("Who would be chosen for which batches", _CHOSEN, chosen_for(told)))
    if told.get("not_measured"):
        render.line(f"nothing was measured: {told['not_measured']}; `vantun accel probe --deep` measures now")
    render.line("What would change it:")
    for change in changes(told):
        render.line(f"  {change}")


def chosen_for(told: dict[str, object]) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table of batches; sizes of which the same is true share one."""
    found = told["chosen_for"]
    assert isinstance(found, list)
    merged: dict[tuple[str, str], list[tuple[str, int | None]]] = {}
    for each in found:
        name = each["engine"]
        if each["provenance"] in ("emulator", "fake"):
            name += f" ({each['provenance']})"
        said = f"{each['verdict']}; {each['next_step']}" if each["next_step"] else each["verdict"]
        merged.setdefault((name, said), []).append((each["shape"], each["largest_batch"]))
    every = {each["shape"] for each in found if each["shape"]}
    rows = []
    for (name, said), shapes in merged.items():
        where = "any" if len(shapes) == len(every) else ", ".join(shape for shape, _ in shapes) or "any"
        largest = ", ".join(dict.fromkeys(str(most) for _, most in shapes if most is not None))
        rows.append((name, where, largest or render.MISSING, said))
    return rows


def changes(told: dict[str, object]) -> list[str]:
    """Return what would make another engine do the work, a sentence each."""
    kind = str(told["operation"]).split(".", maxsplit=1)[0]
    engine = told["engine"]
    ladder, goals, rows = told["ladder"], told["other_goals"], told["engines"]
    assert isinstance(ladder, list)
    assert isinstance(goals, list)
    assert isinstance(rows, list)
    found = [
        f"batches from {step['from_batch']} and rows from {step['from_bytes']} B on: {step['engine']}"
        for step in ladder
        if step["engine"] != engine
    ]
    found += [f"accel.goal: {goal['goal']} -> {goal['engine']}" for goal in goals if goal["engine"] != engine]
    usable = [row["engine"] for row in rows if row["self_test"] == "PASS" and row["engine"] != engine]
    found += [f"accel.{kind}: {name!r} -> {name}" for name in usable]
    spares = told["spares"]
    assert isinstance(spares, list)
    if spares:
        found.append(f"a fault of {engine} -> {spares[0]}, at once")
    return found or ["nothing: no other engine is usable here"]


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    measured = row["measured"]
    figures = measured if isinstance(measured, dict) else {}
    return (
        str(row["engine"]),
        str(row["state"]),
        str(row["self_test"]) or render.MISSING,
        f"{figures['batch']} x {figures['shape']}" if figures else render.MISSING,
        render.number(figures.get("wall_ns_per_packet"), 1),
        render.number(figures.get("cpu_ns_per_packet"), 1),
        render.number(figures.get("p99_ns"), 0, " ns"),
        render.number(figures.get("gb_per_s"), 2),
        str(row["reason"]),
    )
