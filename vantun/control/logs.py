"""Logging of the appliance: to standard error, one readable line each."""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FOREIGN = ("aioquic", "quic", "http3", "asyncio")
"""Loggers of libraries, which log a line per connection or packet at `info` and `debug`."""


class OneLine(logging.Formatter):
    """Writes time, level and message; what a peer has sent cannot forge a second line or move the cursor."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line; a traceback, which is ours, follows it as it is."""
        return _CONTROL.sub(lambda match: repr(match[0])[1:-1], super().formatMessage(record))


def set_up_logging(level: str, stream: TextIO | None = None) -> None:
    """Send what is at least ``level`` (debug, info, warning, error) to ``stream``, by default standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
