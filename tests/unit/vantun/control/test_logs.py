from __future__ import annotations

import errno
import io
import json
import logging
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

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


def test_json_is_one_object_each_line() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    log = logging.getLogger("vantun.control")
    log.warning("%s", "from a peer:\n{}", extra={"session": 7})
    try:
        raise ValueError("on purpose")
    except ValueError:
        log.exception("a mistake")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("warning", "vantun.control", "from a peer:\n{}")
    assert first["fields"] == {"session": 7}
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert "exception" not in first
    assert second["exception"].startswith("Traceback")


def test_the_journal_gets_levels_and_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        set_up_logging("debug", stream=stream)
        for say in (logging.error, logging.warning, logging.info, logging.debug):
            say("hello")
        assert (tmp_path / "journal").read_text() == "<3>hello\n<4>hello\n<6>hello\n<7>hello\n"


def test_a_full_disk_is_survived_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as stream:
        set_up_logging("info", stream=stream)
        write = os.write
        log = logging.getLogger("vantun")

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("vantun.control.logs.os.write", full)
        log.info("one")
        log.info("two")
        monkeypatch.setattr("vantun.control.logs.os.write", write)
        log.info("three")
        log.info("four")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[20:] for line in lines] == [
        "WARNING 2 message(s) before this one could not be written: [Errno 28] No space left on device",
        "INFO    three",
        "INFO    four",
    ]


def test_a_closed_pipe_and_a_closed_stream(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        set_up_logging("info", stream=stream)
        logging.getLogger("vantun").info("nobody reads this")
    logging.getLogger("vantun").info("%s", "it is closed")


def test_a_message_that_cannot_be_formatted() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    logging.getLogger("vantun").info("%d", "text")
    assert "a message of vantun cannot be formatted" in stream.getvalue()
