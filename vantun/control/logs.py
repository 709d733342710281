"""Logging of the appliance: to standard error, one line each, readable or as JSON.

What cannot be written (a full disk, a closed pipe) is counted and noted once writing works again; it never stops the
appliance. systemd's journal stamps every line itself, so lines to it carry their level instead of the time.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FOREIGN = ("aioquic", "quic", "http3", "asyncio", "httpx", "httpcore")
"""Loggers of libraries, which log a line per connection or packet at `info` and `debug`."""
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest are the fields that a message was given."""
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
"""Levels and their numbers in the journal (sd-daemon(3))."""


class OneLine(logging.Formatter):
    """Writes time, level and message; what a peer has sent cannot forge a second line or move the cursor."""

    def __init__(self, *, journal: bool = False) -> None:
        form = "%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s"
        super().__init__(form, "%Y-%m-%d %H:%M:%S")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback behind it; for the journal each begins with its priority."""
        text = super().format(record)
        if not self._journal:
            return text
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line; a traceback, which is ours, follows it as it is."""
        return _CONTROL.sub(lambda match: repr(match[0])[1:-1], super().formatMessage(record))


class JsonLine(logging.Formatter):
    """Writes one JSON object: ``time`` (UTC), ``level``, ``logger``, ``message``, ``fields``, ``exception`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "fields": {name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class SurvivingHandler(logging.Handler):
    """Writes to a stream, past its buffer: what cannot be written is lost, counted, and noted later.

    Attributes
    ----------
    lost
        Messages that could not be written since the last one that could.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.lost = 0
        self._why = ""
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self.format(record)
        except Exception as error:  # a wrong % argument: a mistake of ours, and no reason to stop either
            line = f"a message of {record.name} cannot be formatted: {error!r}"
        if self.lost:
            note = logging.makeLogRecord(
                {
                    "name": __name__,
                    "levelno": logging.WARNING,
                    "levelname": "WARNING",
                    "msg": "%d message(s) before this one could not be written: %s",
                    "args": (self.lost, self._why),
                }
            )
            line = f"{self.format(note)}\n{line}"
        try:
            self._write(line + "\n")
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.lost += 1
            self._why = str(error)
        else:
            self.lost = 0

    def _write(self, text: str) -> None:
        if self._descriptor < 0:
            self._stream.write(text)
            self._stream.flush()
            return
        data = text.encode("utf-8", "backslashreplace")
        if self._torn:  # the line before was cut off
            data = b"\n" + data
        while data:
            size = os.write(self._descriptor, data)
            data = data[size:]
            self._torn = bool(data)


def _descriptor(stream: TextIO) -> int:
    """Return the descriptor to write to; -1 for a stream that has none."""
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return -1


def is_journal(stream: TextIO) -> bool:
    """Tell whether a stream goes to systemd's journal (``JOURNAL_STREAM``, systemd.exec(5))."""
    said = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return said == f"{found.st_dev}:{found.st_ino}"


def set_up_logging(level: str, form: str = "text", stream: TextIO | None = None) -> None:
    """Send what is at least ``level`` (debug, info, warning, error) to ``stream``, by default standard error.

    ``form`` is ``text`` or ``json``.
    """
    stream = stream or sys.stderr
    handler = SurvivingHandler(stream)
    handler.setFormatter(JsonLine() if form == "json" else OneLine(journal=is_journal(stream)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
