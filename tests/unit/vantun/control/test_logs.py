from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from vantun.control.logs import set_up_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(level: str, name: str = "vantun.control") -> str:
    stream = io.StringIO()
    set_up_logging(level, stream=stream)
    log = logging.getLogger(name)
    for say in (log.debug, log.info, log.warning, log.error):
        say("%s", "from a peer:\nERROR \x1b[2Jforged")
    return stream.getvalue()


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_kept(level: str, lines: int) -> None:
    assert len(written(level).splitlines()) == lines


def test_a_peer_cannot_forge_a_line() -> None:
    assert written("error").endswith(r"ERROR   from a peer:\nERROR \x1b[2Jforged" + "\n")


def test_libraries_are_quiet() -> None:
    assert len(written("debug", "quic").splitlines()) == 2


def test_a_traceback_stands_as_it_is() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    try:
        raise ValueError("on purpose")
    except ValueError:
        logging.getLogger("vantun").exception("a mistake")
    assert "\nTraceback (most recent call last):\n" in stream.getvalue()
