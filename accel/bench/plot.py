"""A picture of comparisons, by matplotlib, which is imported when somebody asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel.bench.account import emulated
from accel.bench.compare import MEMCPY, Comparison
from drivers.errors import Unavailable

ENDINGS = (".svg", ".png", ".pdf")
_WIDTH, _HEIGHT = 6.4, 4.4
"""Inches of one panel."""


def check(path: Path) -> None:
    """Refuse a picture that could not be drawn, before anything is measured.

    Raises
    ------
    ValueError
        When the name has no ending of a picture.
    UnavailableError
        When matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path.name}: a picture's name ends in {', '.join(ENDINGS)}")
    _figure_class()


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        reason = f"a plot needs matplotlib ({error})"
        raise Unavailable(reason, "install it: pip install 'vantun[plot]'").error() from error
    return Figure


def draw(comparisons: Sequence[Comparison], path: Path, subtitle: str) -> None:
    """Write GB/s over batch sizes, a panel for each operation; the format follows the name's ending.

    Raises
    ------
    ValueError, UnavailableError
        As :func:`check`.
    """
    check(path)
    figure = _figure_class()(figsize=(_WIDTH * len(comparisons), _HEIGHT), layout="constrained")
    for place, comparison in enumerate(comparisons, 1):
        axes = figure.add_subplot(1, len(comparisons), place)
        fakes = emulated(comparison)
        for name in dict.fromkeys(name for point in comparison.points for name in point.row_ns):
            points = [point for point in comparison.points if name in point.row_ns]
            style = {"linestyle": "-", "marker": "o"}
            label = name
            if name == MEMCPY:
                style, label = {"linestyle": "--", "color": "black"}, "memcpy (limit)"
            elif name in fakes:
                style, label = {"linestyle": ":", "marker": "x"}, f"{name} (emulator)"
            batches = [point.batch for point in points]
            axes.plot(batches, [comparison.gigabytes(point, name) for point in points], label=label, **style)
        for crossing in comparison.crossovers:
            axes.axvline(crossing.batch, linewidth=0.8, color="grey")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("rows in a batch")
        axes.set_ylabel("GB/s, one thread")
        axes.set_title(_title(comparison))
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
    figure.suptitle(subtitle, fontsize="small")
    figure.savefig(path)


def _title(comparison: Comparison) -> str:
    question = comparison.question
    what = f"({question.shape[0]},{question.shape[1]})" if question.is_fec else question.suite.value
    return f"{question.operation.value}, {what}, {question.size} B"
