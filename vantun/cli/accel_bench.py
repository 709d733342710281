"""``vantun accel bench``: how fast the engines of this machine are, beside one another."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vantun import __version__
from vantun.cli import render
from vantun.errors import EXIT_OK

if TYPE_CHECKING:
    from accel.bench.compare import Comparison, Question

    _Sizes = click.ParamType[tuple[int, ...]]
else:
    _Sizes = click.ParamType  # older releases cannot be subscripted

_BATCHES = "1,4,16,64,256,1024"
_MOST_BATCH = 16_384
_SIZES = {"fec": 1200, "aead": 1350}
_SUITES = ("aes-128-gcm", "aes-256-gcm", "chacha20-poly1305")


class Batches(_Sizes):
    """Batch sizes with commas between them."""

    name = "list"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the sizes in ascending order, each once."""
        try:
            sizes = sorted({int(part) for part in str(value).split(",")})
        except ValueError:
            self.fail(f"{value!r} is no list of batch sizes; write numbers with commas, e.g. 1,64,256", param, ctx)
        if sizes[0] < 1 or sizes[-1] > _MOST_BATCH:
            self.fail(f"a batch has 1 to {_MOST_BATCH} rows, {value!r} goes beyond", param, ctx)
        return tuple(sizes)


@click.command("bench", short_help="Measure the engines against each other.")
@click.argument("kind", type=click.Choice(list(_SIZES)), required=False)
@click.option("--engine", default="", metavar="NAME", help="Whose figures come first; emulators must be named here.")
@click.option("--baseline", default="", metavar="NAME", help="Compare with this engine; default: the best other.")
@click.option("--k", type=click.IntRange(1, 128), default=10, show_default=True, help="Data units of a span.")
@click.option("--m", type=click.IntRange(1, 127), default=4, show_default=True, help="Parity units of a span.")
@click.option("--size", type=click.IntRange(1, 65_536), help="Bytes of a unit (1200) or of a packet (1350).")
@click.option("--batch", type=Batches(), default=_BATCHES, show_default=True, help="Rows in a batch, several sizes.")
@click.option("--suite", type=click.Choice(_SUITES), default=_SUITES[0], show_default=True, help="Of the packets.")
@click.option(
    "--seconds", type=click.FloatRange(0.001, 3600), default=20.0, show_default=True, help="To measure, about."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw GB/s over batch sizes: SVG, PNG, PDF."
)
def command(kind: str | None, as_json: bool, plot: Path | None, seconds: float, **given: Any) -> int:  # noqa: FBT001
    """Measure FEC, AEAD or both, on one CPU, all engines taking turns so that a shared machine is fair to them.

    Ratios are medians of the ratios of single rounds. memcpy is a copy of as many bytes: the limit of what passes over
    data. An emulator takes part only when it is named, is marked as one, and never stands in a headline.
    """
    try:
        questions = ask(kind, **given)
        if plot is not None:
            from accel.bench.plot import check

            check(plot)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    found = compare(questions, given["engine"], given["baseline"], seconds)
    if as_json:
        from accel.bench.account import document

        render.json({**machine(), "comparisons": [document(each) for each in found]})
    else:
        show(found)
    if plot is not None:
        from accel.bench.plot import draw

        draw(found, plot, ", ".join(f"{name} {value}" for name, value in machine().items()))
        render.warning(f"{plot} written")
    return EXIT_OK


def ask(kind: str | None, *, size: int | None, batch: tuple[int, ...], suite: str, **shape: Any) -> list[Question]:
    """Return a question for each operation; raises ValueError for what nobody can do."""
    from accel.bench.compare import Question
    from accel.catalogue import Kind
    from accel.engine import Suite

    return [
        Question(operation, batch, size or _SIZES[each.value], (shape["k"], shape["m"]), Suite(suite))
        for each in Kind
        if kind in (None, each.value)
        for operation in each.operations
    ]


def compare(questions: list[Question], engine: str, baseline: str, seconds: float) -> list[Comparison]:
    """Measure; the seconds are shared by all operations and batch sizes."""
    from accel.bench.compare import entrants, measure
    from accel.bench.contest import Effort, pinned

    effort = Effort(seconds / sum(len(question.batches) for question in questions), min(0.0003, seconds / 1000))
    with pinned():
        return [
            measure(question, entrants(question.operation, engine, baseline), effort, subject=engine, baseline=baseline)
            for question in questions
        ]


def machine() -> dict[str, str]:
    """Return what a figure is worth nothing without."""
    from drivers.cpu import read_cpu

    return {"cpu": read_cpu().model, "kernel": platform.release(), "vantun": __version__, "provenance": "cpu"}


_COLUMNS = (">batch", "engine", ">ns/row", ">GB/s", ">ratio", ">quartiles", ">of memcpy")


def show(found: list[Comparison]) -> None:
    """Print a table for each operation, then the lines that matter."""
    from accel.bench.account import cells, crossover_lines, headline

    for comparison in found:
        question = comparison.question
        what = f"k={question.shape[0]}, m={question.shape[1]}" if question.is_fec else question.suite.value
        title = f"{question.operation.value}, {what}, {question.size} B, against {comparison.baseline}"
        render.show(render.table(title, _COLUMNS, cells(comparison)))
    for comparison in found:
        for text in (headline(comparison), *crossover_lines(comparison)):
            if text:
                render.line(text)
    for name, reason in {name: why for each in found for name, why in each.absent.items()}.items():
        render.line(f"not measured: {name}: {reason}")
