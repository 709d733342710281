"""The only printer of the command line: text, tables, JSON, and a screen that refreshes.

Results go to standard output, errors and warnings to standard error. rich is imported when something is printed.
"""

from __future__ import annotations

import json as _json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

MISSING = "-"
"""Stands in a table where nothing is known."""

_PIPE_WIDTH = 160
"""Columns of a table that goes to a file or a pipe; rich would cut it to 80."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on the current standard output (or error), wide enough for tables in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, markup=False)


def line(text: str = "") -> None:
    """Print a line of a result."""
    console().print(text, soft_wrap=True)


def text(document: str) -> None:
    """Print a document as it is."""
    sys.stdout.write(document)
    sys.stdout.flush()


def error(text: str) -> None:
    """Print an error message; every line of it says that it is one."""
    for part in text.splitlines():
        console(stderr=True).print(f"error: {part}", soft_wrap=True, style="red")


def warning(text: str) -> None:
    """Print a warning."""
    console(stderr=True).print(f"warning: {text}", soft_wrap=True, style="yellow")


def json(data: object, *, indent: int | None = 2) -> None:
    """Print a JSON document: indented, or with ``indent=None`` as one line."""
    sys.stdout.write(_json.dumps(data, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table; a column whose name begins with ``>`` is set flush right."""
    from rich import box
    from rich.table import Table

    grid = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        grid.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def show(*parts: RenderableType) -> None:
    """Print tables and other rich objects, one below the other."""
    target = console()
    for part in parts:
        target.print(part)


def is_terminal() -> bool:
    """Tell whether standard output is one that can be written over."""
    return sys.stdout.isatty() and not console().is_dumb_terminal


def screen(frames: Iterator[RenderableType]) -> None:
    """Show frames in place until there are no more, or the user interrupts."""
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        for frame in frames:
            live.update(frame, refresh=True)


def number(value: object, digits: int = 0, unit: str = "") -> str:
    """Write a number with separators, or MISSING for anything that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISSING
    return f"{value:,.{digits}f}{unit}"


def percent(fraction: object, digits: int = 2) -> str:
    """Write a fraction as a percentage."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        return MISSING
    return f"{fraction * 100:.{digits}f} %"


def rate(bits: object) -> str:
    """Write bits per second with the unit that suits it."""
    if isinstance(bits, bool) or not isinstance(bits, int | float):
        return MISSING
    for unit, factor in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if abs(bits) >= factor:
            return f"{bits / factor:.1f} {unit}"
    return f"{bits:.0f} bit/s"


def size(octets: object) -> str:
    """Write bytes with the unit that suits it."""
    if isinstance(octets, bool) or not isinstance(octets, int | float):
        return MISSING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(octets) >= factor:
            return f"{octets / factor:.1f} {unit}"
    return f"{octets:.0f} B"


def seconds(value: object) -> str:
    """Write a time span as ``2 d 03:04:05``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISSING
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours:02}:{minutes:02}:{rest:02}"
