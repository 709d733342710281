"""The nursery: a process in which data workers are born, seen from the control process.

It is forked from the control process before that reads its configuration, when everything is imported that both of
them need; the rest each imports by itself, as Python writes to what it only reads, and so would copy the other's part.
It rehearses, so that a worker that is born in it has every kernel loaded; then it waits, and forks. It never learns a
secret.

A worker is the control process's own child: the nursery forks twice, and the process between ends at once. So the end
of the nursery is no worker's end; workers are started as new processes then (:mod:`vantun.control.worker_process`).
"""

from __future__ import annotations

import gc
import importlib
import itertools
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from drivers.errors import SystemCallError
from drivers.linux.wait import adopt_orphans
from vantun.control.worker_process import explain_exit
from vantun.errors import WorkerError
from vantun.one_thread import one_thread

if TYPE_CHECKING:
    import asyncio  # at run time not before the fork: a worker has no use for it

log = logging.getLogger(__name__)

FIRST_SECONDS = 600.0
"""For the first birth: without a library every kernel is compiled before, which takes minutes on a small machine."""
LATER_SECONDS = 5.0
_COMMON = (
    "resource",
    "secrets",
    "drivers.linux.address",
    "drivers.linux.heap",
    "drivers.linux.linger",
    "drivers.linux.transparent",
    "drivers.linux.tun",
    "drivers.linux.udp_bind",
    "drivers.linux.wait",
    "drivers.shared",
    "cryptography.hazmat.primitives.ciphers.aead",
    "vantun.acl",
    "vantun.config_accel",
    "vantun.plain_values",
    "vantun.session.limits",
    "vantun.worker_messages",
)
"""What both an appliance and a worker import, with what these import."""


class ForkedProcess:
    """A child that :func:`os.fork` has made; as much of ``subprocess.Popen`` as a worker needs.

    Attributes
    ----------
    pid
        Its process id.
    returncode
        Its exit status, negative for a signal; None until :meth:`poll` has found it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status if it has ended."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        status = self._wait(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:  # its id may be another's otherwise
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                found, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else has waited for it
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode


class Nursery:
    """Where workers are born. Made by :meth:`plant`; to be closed in the end."""

    def __init__(self, process: ForkedProcess, sock: socket.socket) -> None:
        self._process = process
        self._socket = sock
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[ForkedProcess]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._patience = FIRST_SECONDS
        self._lost = False
        sock.settimeout(0)

    @classmethod
    def plant(cls, role: str) -> Self:
        """Fork the nursery. To be called first of all: before there are secrets, threads, or an event loop.

        ``role`` is the module of what this process will be.

        Raises
        ------
        WorkerError
            When it cannot be forked.
        """
        gc.disable()  # what it would free leaves holes, which each process fills with pages of its own
        try:
            for name in _COMMON:
                importlib.import_module(name)
            gc.freeze()
            with one_thread():
                planted = _fork()
            importlib.import_module(role)
            import vantun.control.appliance  # noqa: F401

            gc.freeze()
            return cls(*planted)
        finally:
            gc.enable()

    @property
    def pid(self) -> int:
        """The nursery's process id, 0 once it is lost."""
        return 0 if self._lost else self._process.pid

    @property
    def ready(self) -> bool:
        """Whether the next worker comes at once: the rehearsal is over."""
        return not self._lost and self._patience == LATER_SECONDS

    async def bear(self, floors: int, rates: int) -> tuple[ForkedProcess, socket.socket]:
        """Return a new worker and our end of the socket to it; see ``spawn_worker``.

        Raises
        ------
        WorkerError
            When the nursery is lost, or cannot fork; a worker can still be started as a new process.
        """
        import asyncio

        if self._lost:
            raise WorkerError("the nursery of data workers has ended")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                answer = self._ask([theirs.fileno(), floors, rates])
            born = await asyncio.wait_for(answer, self._patience)
        except TimeoutError:
            ours.close()
            self._lose("it did not answer")
            raise WorkerError("the nursery of data workers did not answer") from None
        except BaseException:
            ours.close()
            raise
        self._patience = LATER_SECONDS
        return born, ours

    def _ask(self, descriptors: list[int]) -> asyncio.Future[ForkedProcess]:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._readable)
        number = next(self._numbers)
        self._asked[number] = answer = self._loop.create_future()
        try:
            adopt_orphans(on=True)
            socket.send_fds(self._socket, [b"%d" % number], descriptors)
        except (OSError, SystemCallError) as error:
            self._settle(number)
            raise WorkerError(f"the nursery of data workers cannot be asked: {error}") from None
        return answer

    def _readable(self) -> None:
        try:
            data = self._socket.recv(512)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        number, pid, problem = data.decode(errors="replace").split(" ", 2)
        answer = self._settle(int(number))
        if pid != "0":
            born = ForkedProcess(int(pid))
            if answer is None or answer.done():  # nobody waits for it any more
                born.kill()
                born.wait()
            else:
                answer.set_result(born)
        elif answer is not None and not answer.done():
            answer.set_exception(WorkerError(f"no data worker can be forked: {problem}; free memory or processes"))

    def _settle(self, number: int) -> asyncio.Future[ForkedProcess] | None:
        """Forget a question. Orphans are ours while there are any, and only then: programs of hooks may leave some."""
        answer = self._asked.pop(number, None)
        if not self._asked:
            with suppress(SystemCallError):
                adopt_orphans(on=False)
        return answer

    def _lose(self, why: str = "") -> None:
        """Do without it from now on."""
        if self._lost:
            return
        self._end()
        told = why or explain_exit(self._process.returncode or 0)
        log.error(
            "the nursery of data workers is lost: %s; the next ones are started as new processes, which takes longer "
            "and more memory, until this appliance is restarted",
            told,
        )
        for number in list(self._asked):
            answer = self._settle(number)
            if answer is not None and not answer.done():
                answer.set_exception(WorkerError("the nursery of data workers has ended"))

    def _end(self) -> None:
        self._lost = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it; workers that were born in it go on. May be called twice."""
        if not self._lost:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fork() -> tuple[ForkedProcess, socket.socket]:
    """Return the nursery, and our end of the socket to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    with theirs:
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            raise WorkerError(f"no process can be forked: {error.strerror}; free memory or processes") from None
        if pid == 0:
            _tend(theirs, parent)
    return ForkedProcess(pid), ours


def _tend(control: socket.socket, parent: int) -> NoReturn:
    """Be the nursery."""
    status = 1
    try:
        import vantun.dataplane.wake
        import vantun.dataplane.worker_loop  # noqa: F401
        from vantun.dataplane.nursery import tend

        status = tend(control, parent)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
