"""Connections to targets: a flow's ``host:port`` becomes a connected TCP socket, or a refusal.

Every address is judged by the access list, after the lookup, and only what was judged is connected to.

Addresses are tried as in RFC 8305: families take turns, the next address starts 250 ms after the one before, or as soon
as that fails; the first connection wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable

from vantun.acl import AccessList, Action
from vantun.config_kinds import Endpoint, parse_endpoint
from vantun.control.resolver import Address, Resolver
from vantun.dataplane.ports import RefusalCode

log = logging.getLogger(__name__)

TIME_LIMIT = 10.0
"""Seconds for one target: lookup and all attempts."""
STAGGER = 0.25
"""Seconds; Connection Attempt Delay of RFC 8305, section 5."""
ADDRESSES_TRIED = 8
CONCURRENT = 4096
"""Targets that may be connected to at once."""

_CODES = {
    errno.ECONNREFUSED: RefusalCode.REFUSED,
    errno.ETIMEDOUT: RefusalCode.TIMED_OUT,
    errno.EHOSTUNREACH: RefusalCode.HOST_UNREACHABLE,
    errno.ENETUNREACH: RefusalCode.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: RefusalCode.NETWORK_UNREACHABLE,
    errno.EAFNOSUPPORT: RefusalCode.NETWORK_UNREACHABLE,
    errno.EACCES: RefusalCode.NOT_ALLOWED,
    errno.EPERM: RefusalCode.NOT_ALLOWED,
}
_TELLING = (
    RefusalCode.REFUSED,
    RefusalCode.TIMED_OUT,
    RefusalCode.HOST_UNREACHABLE,
    RefusalCode.NOT_ALLOWED,
    RefusalCode.NETWORK_UNREACHABLE,
    RefusalCode.GENERAL,
)
"""If addresses fail in different ways, the first of these is told: a machine without IPv6 says nothing of a target."""


def parse_target(text: str) -> Endpoint:
    """Return the target that an OPEN names. Raises ValueError for anything but ``host:port``."""
    if text != text.strip() or "%" in text:
        raise ValueError("a target is host:port without spaces and zones")
    target = parse_endpoint(text)
    if not target.host:
        raise ValueError("a target needs a host")
    return target


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with families taking turns, beginning with the family of the first (RFC 8305, section 4)."""
    queues: dict[int, list[Address]] = {}
    for address in addresses:
        queues.setdefault(address.family, []).append(address)
    ordered: list[Address] = []
    while any(queues.values()):
        ordered += [queue.pop(0) for queue in queues.values() if queue]
    return ordered


def refusal(error: OSError) -> RefusalCode:
    """Return what to tell the peer about a failed connection."""
    if isinstance(error, socket.gaierror):
        return RefusalCode.HOST_UNREACHABLE
    if isinstance(error, TimeoutError):
        return RefusalCode.TIMED_OUT
    return _CODES.get(error.errno or 0, RefusalCode.GENERAL)


def most_telling(errors: list[OSError]) -> OSError:
    """Return the one of several failures that says most about the target."""
    return min(errors, key=lambda error: _TELLING.index(refusal(error)))


class NotAllowedError(OSError):
    """The access list refuses every address of a target."""

    def __init__(self, target: Endpoint, reasons: list[str]) -> None:
        super().__init__(errno.EACCES, f"{target} is not allowed: {'; '.join(reasons)}")


def permitted(
    access: AccessList,
    target: Endpoint,
    addresses: Iterable[Address],
    protocol: str,
    actions: tuple[Action, ...] = ("allow", "direct"),
) -> list[Address]:
    """Return those of a target's addresses that may be connected to. Raises NotAllowedError when there are none."""
    allowed: list[Address] = []
    reasons: dict[str, None] = {}
    for address in addresses:
        verdict = access.judge(target.host, ipaddress.ip_address(address.host), address.port, protocol)
        if verdict.action not in actions:
            reasons[verdict.reason] = None
        else:
            allowed.append(address)
    if not allowed:
        raise NotAllowedError(target, list(reasons))
    return allowed


class Connector:
    """Connects flows to their targets, each in a task of its own.

    Parameters
    ----------
    attach
        Takes a flow's handle and its connected socket, which is the callee's from then on.
    refuse
        Takes a flow's handle and why there is no connection.

    Attributes
    ----------
    access
        Judges targets; may be replaced, what is connected stays so.
    denied
        Flows that the access list refused.
    """

    def __init__(
        self,
        resolver: Resolver,
        attach: Callable[[int, socket.socket], None],
        refuse: Callable[[int, RefusalCode], None],
        access: AccessList | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self.access = access if access is not None else AccessList()
        self.denied = 0
        self._resolver = resolver
        self._attach = attach
        self._refuse = refuse
        self._time_limit = time_limit
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """Return how many targets are being connected to."""
        return len(self._tasks)

    def open(self, handle: int, target: str) -> None:
        """Begin to connect a flow; ``attach`` or ``refuse`` is called once, unless it is cancelled."""
        if len(self._tasks) >= CONCURRENT:
            log.warning("flow refused: %d connections are being opened already", len(self._tasks))
            self._refuse(handle, RefusalCode.GENERAL)
            return
        try:
            where = parse_target(target)
        except ValueError:
            log.info("flow refused: the client asked for %r, which is no host:port", target)
            self._refuse(handle, RefusalCode.GENERAL)
            return
        self.cancel(handle)
        task = asyncio.get_running_loop().create_task(self._run(handle, where))
        self._tasks[handle] = task
        task.add_done_callback(lambda done: self._tasks.pop(handle) if self._tasks.get(handle) is done else None)

    def cancel(self, handle: int) -> None:
        """Give up a flow that has ended meanwhile."""
        task = self._tasks.pop(handle, None)
        if task is not None:
            task.cancel()

    def cancel_those(self, gone: Callable[[int], bool]) -> None:
        """Give up the flows whose handles are ``gone``: their worker is."""
        for handle in [handle for handle in self._tasks if gone(handle)]:
            self.cancel(handle)

    async def close(self) -> None:
        """Give up every flow."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, handle: int, target: Endpoint) -> None:
        try:
            async with asyncio.timeout(self._time_limit):
                addresses = await self._resolver.resolve(target.host, target.port)
                allowed = permitted(self.access, target, addresses, "tcp")
                sock = await connect_first(interleave(allowed)[:ADDRESSES_TRIED])
        except NotAllowedError as error:
            self.denied += 1
            log.info("flow refused: %s", error.strerror)
            self._refuse(handle, RefusalCode.NOT_ALLOWED)
        except OSError as error:
            log.debug("flow to %s refused: %s", target, str(error) or f"no answer within {self._time_limit:g} s")
            self._refuse(handle, refusal(error))
        else:
            self._attach(handle, sock)


async def connect_first(addresses: list[Address], ports: set[int] | None = None, mark: int = 0) -> socket.socket:
    """Return a socket connected to the first of ``addresses`` that answers. Raises the most telling OSError.

    ``ports`` is given the local port of each attempt before its first packet leaves; that of a failed one is taken out.
    ``mark`` is the firewall mark of the connections (SO_MARK, CAP_NET_ADMIN), 0 = none.
    """
    failures: list[OSError] = []
    running: dict[asyncio.Task[socket.socket], Address] = {}
    waiting = list(addresses)
    try:
        while waiting or running:
            if waiting:
                address = waiting.pop(0)
                running[asyncio.ensure_future(_connect(address, ports, mark))] = address
            done, _ = await asyncio.wait(
                running, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner = _sort_out(done, running, failures)
            if winner is not None:
                return winner
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late)
    raise most_telling(failures)


def _sort_out(
    done: set[asyncio.Task[socket.socket]], running: dict[asyncio.Task[socket.socket], Address], failures: list[OSError]
) -> socket.socket | None:
    """Take finished attempts out of ``running``; return the first connection and close any other."""
    winner: socket.socket | None = None
    for task in done:
        del running[task]
        error = task.exception()
        if error is None:
            if winner is None:
                winner = task.result()
            else:
                task.result().close()
        elif isinstance(error, OSError):
            failures.append(error)
        else:
            raise error
    return winner


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """Close what a losing attempt has reached before its cancellation did."""
    with contextlib.suppress(asyncio.CancelledError, OSError):
        task.result().close()


async def _connect(address: Address, ports: set[int] | None, mark: int) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    port = 0
    try:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if ports is not None:
            sock.bind(("", 0))
            port = int(sock.getsockname()[1])
            ports.add(port)
        await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
    except BaseException:
        sock.close()
        if ports is not None:
            ports.discard(port)
        raise
    return sock
