"""What can go wrong below the engines, one class per decision that a caller can take.

::

    DriverError             anything a driver says on purpose
    ├── UnavailableError    a library, device or kernel feature is not there: choose another way, or install it
    └── SystemCallError     the kernel refused a call; carries ``errno``

A message says what happened, to what, and what to do next. A *probe* does not raise: it returns
``Capability | Unavailable``, because absence is an ordinary answer with a reason and a next step.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


class DriverError(Exception):
    """Anything a driver says on purpose."""


class UnavailableError(DriverError):
    """A library, device or kernel feature is not there.

    Attributes
    ----------
    unavailable
        The same fact as a value.
    """

    def __init__(self, unavailable: Unavailable) -> None:
        self.unavailable = unavailable
        super().__init__(str(unavailable))


class SystemCallError(DriverError):
    """The kernel refused a call.

    Parameters
    ----------
    doing
        What was refused, and to what, e.g. ``"binding UDP 127.0.0.1:443"``.
    number
        The errno.
    next_step
        What to do about it.

    Attributes
    ----------
    errno
        The errno.
    """

    def __init__(self, doing: str, number: int, next_step: str) -> None:
        self.errno = number
        super().__init__(f"{doing} failed: {os.strerror(number)}; {next_step}")


@dataclass(frozen=True)
class Capability:
    """A probe's yes.

    Attributes
    ----------
    name
        What works, e.g. ``"UDP segmentation offload"``.
    facts
        What was learnt on the way: versions, limits, sizes; JSON-able.
    """

    name: str
    facts: Mapping[str, object] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True)
class Unavailable:
    """A probe's no.

    Attributes
    ----------
    reason
        What is missing, and how that was seen.
    next_step
        What to install, load or change; or that nothing needs to be done, and why.
    """

    reason: str
    next_step: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.reason}; {self.next_step}"

    def error(self) -> UnavailableError:
        """Return this answer as an exception, for callers that cannot go on without the capability."""
        return UnavailableError(self)
