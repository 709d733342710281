"""What can go wrong, one class per decision that a caller can take.

::

    VantunError                 anything this program says on purpose; printed as one message, never as a traceback
    ├── ConfigError             the configuration is wrong: nothing was started, mend the named lines
    ├── InstallError            the installation is damaged or mixed with another package: install again
    ├── ResourceError           this machine refused something (a port, memory, a privilege): free or grant it
    ├── ConnectError            the peer cannot be reached or does not answer: trying again may help
    ├── CertificateError        the peer's certificate is not the expected one: do not try again, check the pin
    ├── AuthenticationError     the peer refused our credentials: do not try again, check `auth`
    ├── ProtocolError           the peer broke the protocol; carries the code that goes on the wire
    ├── WorkerError             the data worker died or does not answer: the supervisor restarts it
    ├── NotRunningError         no appliance answers on the status socket: start one, or name its socket
    └── VerificationError       a check that the user asked for has failed (a digest, a transfer, a probe)

A message says what happened, to what, and what to do next. Device and kernel errors are the tree of
:mod:`drivers.errors`, which knows nothing of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_DEGRADED = 3
"""It works, but on a fallback."""


class VantunError(Exception):
    """Anything this program says on purpose.

    Attributes
    ----------
    exit_code
        What the command line exits with when the error reaches it.
    """

    exit_code: int = EXIT_FAILURE


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration file."""

    text: str
    line: int | None = None
    """Line in the file, from 1; None when the problem is not in one place."""


class ConfigError(VantunError):
    """The configuration is wrong; every problem that was found is listed.

    Attributes
    ----------
    source
        The file (or URI) that was read.
    problems
        At least one, in the order of the file.
    """

    exit_code = EXIT_USAGE

    def __init__(self, source: str | Path, problems: list[Problem]) -> None:
        self.source = str(source)
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(self._where(problem) + problem.text for problem in self.problems))

    def _where(self, problem: Problem) -> str:
        return f"{self.source}: " if problem.line is None else f"{self.source}:{problem.line}: "


class InstallError(VantunError):
    """The installation is damaged or mixed with another package."""


class ResourceError(VantunError):
    """The machine refused something: a port, memory, a privilege."""


class ConnectError(VantunError):
    """The peer cannot be reached or does not answer; trying again may help."""


class CertificateError(VantunError):
    """The peer's certificate is not the expected one; trying again does not help."""


class AuthenticationError(VantunError):
    """The peer refused our credentials; trying again does not help."""


class ProtocolError(VantunError):
    """The peer broke the protocol.

    Attributes
    ----------
    code
        The error code that goes on the wire in CLOSE.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        self.code = code
        super().__init__(message)


class WorkerError(VantunError):
    """The data worker died or does not answer."""


class NotRunningError(VantunError):
    """No appliance answers on the status socket."""


class VerificationError(VantunError):
    """A check that the user asked for has failed."""
