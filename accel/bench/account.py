"""A comparison in words and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from accel.bench.compare import MEMCPY, Comparison, Point


def document(comparison: Comparison) -> dict[str, object]:
    """Return a comparison as JSON."""
    question = comparison.question
    facts: dict[str, object] = {"k": question.shape[0], "m": question.shape[1]}
    if not question.is_fec:
        facts = {"suite": question.suite.value}
    return {
        "operation": question.operation.value,
        "size": question.size,
        **facts,
        "engines": [
            {"engine": each.name, "provenance": each.provenance.value, "maturity": each.maturity.value}
            for each in comparison.candidates
        ],
        "absent": dict(comparison.absent),
        "subject": comparison.subject,
        "baseline": comparison.baseline,
        "headline": headline(comparison),
        "batches": [_point(comparison, point) for point in comparison.points],
        "crossovers": [
            {"before": each.before, "after": each.after, "between": [each.below, each.above], "about": each.batch}
            for each in comparison.crossovers
        ],
    }


def _point(comparison: Comparison, point: Point) -> dict[str, object]:
    found: dict[str, object] = {"batch": point.batch}
    for name, spread in point.row_ns.items():
        found[name] = {
            "ns_per_row": spread.document(1),
            "gb_s": round(comparison.gigabytes(point, name), 3),
            "ratio": point.ratio[name].document() if name in point.ratio else None,
        }
    return found


def emulated(comparison: Comparison) -> set[str]:
    """Return the engines whose speed says nothing about a device."""
    return {each.name for each in comparison.candidates if each.emulated}


def headline(comparison: Comparison) -> str:
    """Return the result in one line; empty when an emulator would stand in it, or one of the two has no figures."""
    subject, baseline = comparison.subject, comparison.baseline
    both = [point for point in comparison.points if subject in point.row_ns and baseline in point.row_ns]
    if not both or {subject, baseline} & emulated(comparison):
        return ""
    point = both[-1]
    text = f"{subject} {comparison.gigabytes(point, subject):.3g} GB/s at batch {point.batch}"
    if subject != baseline:
        ratio = point.ratio[subject]
        text += f", {ratio.median:.2f}x {baseline} (quartiles {ratio.low:.2f}-{ratio.high:.2f})"
    share = point.row_ns[MEMCPY].median / point.row_ns[subject].median
    return f"{comparison.question.operation.value}: {text}; memcpy of as many bytes takes {share:.0%} of the time"


def crossover_lines(comparison: Comparison) -> list[str]:
    """Return where the lead changes, a sentence each."""
    operation = comparison.question.operation.value
    if comparison.crossovers:
        return [
            f"{operation}: {each.after} overtakes {each.before} at a batch of about {each.batch} "
            f"(measured at {each.below} and {each.above})"
            for each in comparison.crossovers
        ]
    leaders = {
        min((name for name in point.ratio or point.row_ns if name != MEMCPY), key=lambda n: point.row_ns[n].median)
        for point in comparison.points
        if len(point.row_ns) > 1
    } - emulated(comparison)
    return [f"{operation}: {name} leads at every batch size" for name in sorted(leaders)]


def cells(comparison: Comparison) -> list[Sequence[str]]:
    """Return rows of a table: batch, engine, ns per row, GB/s, ratio to the baseline, quartiles, share of memcpy."""
    rows: list[Sequence[str]] = []
    fakes = emulated(comparison)
    for point in comparison.points:
        for name, spread in sorted(point.row_ns.items(), key=lambda item: item[1].median):
            ratio = point.ratio.get(name)
            label = f"{name} (limit)" if name == MEMCPY else f"{name} (emulator)" if name in fakes else name
            share = point.row_ns[MEMCPY].median / spread.median
            rows.append(
                (
                    str(point.batch),
                    label,
                    f"{spread.median:,.1f}",
                    f"{comparison.gigabytes(point, name):.3g}",
                    "-" if ratio is None else f"{ratio.median:.2f}x",
                    "-" if ratio is None else f"{ratio.low:.2f}-{ratio.high:.2f}",
                    f"{share:.1%}",
                )
            )
    return rows
