"""The TUN interface of an appliance, and everything that this machine's kernel is told for it.

One place makes the changes, so that one place undoes them: :meth:`TunInterface.close`, or after a crash the next start.
Calls of the kernel take microseconds, those of nft about 10 ms; they happen when a session comes or goes, never per
packet, so they are made on the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drivers.errors import DriverError, SystemCallError, Unavailable
from drivers.linux import sysctl
from drivers.linux.network import Network, Route, Rule
from drivers.linux.nftables import Nft, find_nft
from drivers.linux.tun import TunDevice, TunOffload, use_queue
from vantun.config_tun import IPInterface
from vantun.control.tun_firewall import FAMILY, Firewall, table_name
from vantun.control.tun_record import Record, TunRecords
from vantun.control.tun_routes import mark_of, priorities_of
from vantun.errors import ResourceError

log = logging.getLogger(__name__)

NUMBER = 1
"""Of the device, for the worker; an appliance has one."""
OPEN_SECONDS = 5.0
"""How long a device may be held by the worker of an appliance that has just died."""
_ACCEPT_RA = "ipv6/conf/{}/accept_ra"
_NO_IPV6 = (errno.EACCES, errno.EPERM, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


@dataclass
class Kernel:
    """The ways to this machine's kernel."""

    open_tun: Callable[[str], TunDevice] = TunDevice.open
    network: Network = field(default_factory=Network)
    nft: Nft | Unavailable = field(default_factory=lambda: _find_nft())
    write: Callable[[str, str], None] = sysctl.write
    queues: int = 1
    """Of the device, one for each worker."""
    pause: float = 0.2
    """Seconds between attempts to open a device that is busy."""
    open_first: Callable[[str], TunDevice] = lambda name: TunDevice.open(name, multi_queue=True, exclusive=True)
    """As ``open_tun``, of a device with a queue for each worker."""
    open_queue: Callable[[str], TunDevice] = lambda name: TunDevice.open(name, multi_queue=True)
    """Opens another queue of that device."""


def _find_nft() -> Nft | Unavailable:
    program = find_nft()
    return Nft(program) if program else Unavailable("the program nft is not installed", "install the package nftables")


def state_folder(runtime: Path) -> Path:
    """Return where records of changes are kept: systemd's StateDirectory, or ``runtime``."""
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) if state else runtime


class TunInterface:
    """Made by :meth:`open`.

    Attributes
    ----------
    name, index
        Of the interface.
    mark
        That UDP sockets of the appliance must have.
    mtu
        As it is set now.
    missing
        What this machine does not have, and the reason, for status.
    """

    def __init__(self, device: TunDevice, index: int, record: Record, records: TunRecords, kernel: Kernel) -> None:
        self.name = device.name
        self.index = index
        self.mark = mark_of(record.slot)
        self.mtu = 0
        self.missing: dict[str, str] = {}
        self.device = device
        self.queues = [device]
        self._offloads = device.offloads
        """As the configuration wants it."""
        self.slot = record.slot
        self._kernel = kernel
        self._record = record
        self._records = records
        self._addresses: set[IPInterface] = set()
        self._routes: dict[tuple[object, ...], Route] = {}
        self._rules: list[Rule] = []
        self._firewall: Firewall | None = None
        for missing in device.missing:
            self.missing[_what(missing)] = str(missing)

    @classmethod
    async def open(cls, name: str, records: TunRecords, kernel: Kernel, *, offload: bool) -> TunInterface:
        """Create the interface, and remove what an appliance that has crashed may have left.

        Raises
        ------
        ResourceError
            When this machine refuses, or another appliance has it; says what to do.
        """
        record, crashed = records.claim(name)
        if crashed:
            log.warning("tun: the last appliance with %s did not stop in order; what it has left is removed", name)
        try:
            _sweep(name, record.slot, kernel)
            device, single = await _open(name, kernel)
        except DriverError as error:
            records.release(record)
            raise ResourceError(f"tun: {error}") from None
        queues, reason = ([], single) if single else _more_queues(device, kernel)
        try:
            if not offload:
                device.set_offloads(TunOffload.NONE)
            link = kernel.network.link(device.name)
            if link is None:
                raise ResourceError(f"tun: somebody has removed the interface {device.name} at once; see `ip monitor`")
            interface = cls(device, link.index, record, records, kernel)
            interface.queues += queues
            if reason:
                interface.missing["a queue for every worker"] = reason
            interface._begin()
        except BaseException as error:
            for queue in (device, *queues):
                queue.close()
            records.release(record)
            if isinstance(error, DriverError):
                raise ResourceError(f"tun: {error}") from None
            raise
        return interface

    def leave(self, peers: Iterable[int]) -> None:
        """Read no packet that one of the peers could not write: their kernels take these (TunOffload)."""
        wanted = self._offloads
        for takes in peers:
            wanted &= TunOffload(takes)
        if wanted != self.device.offloads:
            self.device.set_offloads(wanted)

    def _begin(self) -> None:
        try:
            # without it the kernel talks about a link-local address that nobody at the far end has a use for
            self._kernel.write(f"ipv6/conf/{self.name}/addr_gen_mode", "1")
        except SystemCallError:
            log.debug("tun: no IPv6 here, or an old kernel: %s keeps its link-local address", self.name)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The queues' descriptors; every one after the first is out of use (:mod:`vantun.control.crew_tun`)."""
        return tuple(queue.fileno() for queue in self.queues)

    # --- changes

    def configure(self, addresses: Iterable[IPInterface], mtu: int) -> tuple[IPInterface, ...]:
        """Give the interface these addresses and no others, and bring it up; return those that it has.

        IPv6 addresses are left out, with a reason in :attr:`missing`, on a machine without IPv6. Raises DriverError.
        """
        network = self._kernel.network
        self.set_mtu(mtu)
        network.set_link(self.index, up=True)
        wanted = list(addresses)
        for address in self._addresses - set(wanted):
            network.remove_address(self.index, address)
        had, self._addresses = self._addresses, set()
        for address in wanted:
            if address in had or self._try(address.version, partial(network.add_address, self.index, address)):
                self._addresses.add(address)
        return tuple(address for address in wanted if address in self._addresses)

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU, if it is another one. Raises DriverError."""
        if mtu != self.mtu:
            self._kernel.network.set_link(self.index, mtu=mtu)
            self.mtu = mtu

    def set_routes(self, routes: Iterable[Route], rules: Iterable[Rule] = ()) -> None:
        """Have these routes and rules, and no others that were set here. Raises DriverError."""
        network = self._kernel.network
        wanted = {_key(route): route for route in routes}
        rules = list(rules)
        for rule in reversed(self._rules):
            if rule not in rules:
                network.remove_rule(rule)
        for key, route in list(self._routes.items()):
            if key not in wanted:
                network.remove_route(route)
                del self._routes[key]
        for key, route in wanted.items():
            if self._routes.get(key) != route and self._try(route.network.version, partial(network.set_route, route)):
                self._routes[key] = route
        before, self._rules = self._rules, []
        for rule in rules:
            if rule in before or self._try(rule.version, partial(network.add_rule, rule)):
                self._rules.append(rule)

    def set_setting(self, name: str, value: str) -> None:
        """Change a setting of the kernel until the end. Raises DriverError."""
        self._records.set(self._record, name, value)

    def set_forwarding(self, versions: Iterable[int]) -> None:
        """Have this machine forward packets of these IP versions until the end. Raises DriverError."""
        if 4 in (wanted := set(versions)):
            self.set_setting("ipv4/ip_forward", "1")
        if 6 in wanted:
            # a router does not listen to routers: an uplink that has its address from one would lose it
            for name in _advertised():
                self.set_setting(_ACCEPT_RA.format(name), "2")
            self.set_setting("ipv6/conf/all/forwarding", "1")

    def set_firewall(self, firewall: Firewall) -> bool:
        """Have these packet filter rules; False, with a reason in :attr:`missing`, when there is no nftables.

        Raises DriverError when nftables is there and refuses.
        """
        nft = self._kernel.nft
        if isinstance(nft, Unavailable):
            self.missing["nftables (MSS clamp, loop guard)"] = str(nft)
            return False
        if firewall != self._firewall:
            nft.apply(firewall.ruleset())
            self._firewall = firewall
        return True

    def _try(self, version: int, change: Callable[[], None]) -> bool:
        """Make a change of a family; without IPv6 on this machine it is left out."""
        try:
            change()
        except SystemCallError as error:
            if version != 6 or error.errno not in _NO_IPV6:
                raise
            if "IPv6" not in self.missing:
                log.warning("tun: IPv6 is left out: %s", error)
            self.missing["IPv6"] = str(error)
            return False
        return True

    # --- the end

    def close(self) -> None:
        """Undo everything; what cannot be undone is logged."""
        network, nft = self._kernel.network, self._kernel.nft
        steps: list[Callable[[], object]] = []
        steps += [partial(network.remove_rule, rule) for rule in reversed(self._rules)]
        steps += [partial(network.remove_route, route) for route in self._routes.values()]
        if self._firewall is not None and isinstance(nft, Nft):
            steps.append(partial(nft.delete, FAMILY, self._firewall.table))
        for step in steps:
            try:
                step()
            except DriverError as error:
                log.warning("tun: not undone: %s", error)
        self._rules, self._routes, self._firewall = [], {}, None
        for queue in self.queues:
            queue.close()
        for failed in self._records.release(self._record):
            log.warning("tun: not undone: %s", failed)
        network.close()

    # --- what is shown

    def counters(self) -> dict[str, int]:
        """Return what the packet filter has counted."""
        nft = self._kernel.nft
        if self._firewall is None or isinstance(nft, Unavailable):
            return {}
        try:
            return nft.counters(FAMILY, self._firewall.table)
        except DriverError as error:
            log.debug("tun: no counters: %s", error)
            return {}

    def report(self) -> dict[str, object]:
        """Return what status shows of the interface."""
        return {
            "name": self.name,
            "addresses": [str(address) for address in sorted(self._addresses, key=str)],
            "mtu": self.mtu,
            "routes": [_shown(route) for route in self._routes.values()],
            "mark": self.mark,
            "offloads": [flag.name for flag in TunOffload if flag and flag in self.device.offloads],
            "counters": self.counters(),
        }

    def fallbacks(self) -> list[dict[str, object]]:
        """Return what is done without, for `vantun status`."""
        return [{"what": f"TUN without {what}", "reason": reason} for what, reason in self.missing.items()]


async def _open(name: str, kernel: Kernel) -> tuple[TunDevice, str]:
    """Open a device; one that is busy may be in the hands of a worker whose control process has died.

    Also returns why it has one queue only although several were wanted (empty if not).
    """
    end = asyncio.get_running_loop().time() + OPEN_SECONDS
    while True:
        try:
            return _open_once(name, kernel)
        except SystemCallError as error:
            if error.errno != errno.EBUSY or asyncio.get_running_loop().time() >= end:
                raise
        await asyncio.sleep(kernel.pause)


def _open_once(name: str, kernel: Kernel) -> tuple[TunDevice, str]:
    """Open a device with several queues if there are several workers, with one where the kernel has no more."""
    if kernel.queues == 1:
        return kernel.open_tun(name), ""
    try:
        return kernel.open_first(name), ""
    except DriverError as error:
        # EINVAL: a persistent device that was made with one queue
        if isinstance(error, SystemCallError) and error.errno != errno.EINVAL:
            raise
        device = kernel.open_tun(name)
        log.warning("tun: one worker carries all packets: %s", error)
        return device, str(error)


def _what(missing: Unavailable) -> str:
    """Return the name of what a device does without, from the reason."""
    words = missing.reason.partition(" leave ")[2] or missing.reason.partition(" refuses ")[2]
    return words.partition(" to ")[0].partition(" on ")[0]


def _more_queues(device: TunDevice, kernel: Kernel) -> tuple[list[TunDevice], str]:
    """Open a queue for each further worker, and leave them out of use; return why there are none, if so."""
    queues: list[TunDevice] = []
    try:
        while len(queues) < kernel.queues - 1:
            queues.append(kernel.open_queue(device.name))
            use_queue(queues[-1].fileno(), wanted=False)
    except DriverError as error:
        log.warning("tun: one worker carries all packets: %s", error)
        for queue in queues:
            queue.close()
        return [], str(error)
    return queues, ""


def _sweep(name: str, slot: int, kernel: Kernel) -> None:
    """Remove rules, routes and the table of an appliance that was killed; its interface has gone by itself."""
    priorities = priorities_of(slot)
    for rule in kernel.network.rules():
        if rule.priority in priorities:
            kernel.network.remove_rule(rule)
    for route in kernel.network.routes(mark_of(slot)):
        kernel.network.remove_route(route)
    if isinstance(kernel.nft, Nft) and (FAMILY, table_name(name)) in kernel.nft.tables():
        kernel.nft.delete(FAMILY, table_name(name))


def _advertised() -> list[str]:
    """Return the interfaces that may have their addresses from a router's advertisements."""
    folder = sysctl.ROOT / "ipv6/conf"
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [name for name in sorted(names - {"all", "default", "lo"}) if sysctl.read(_ACCEPT_RA.format(name)) == "1"]


def _key(route: Route) -> tuple[object, ...]:
    return route.network, route.table, route.metric, route.kind


def _shown(route: Route) -> dict[str, object]:
    return {
        "network": str(route.network),
        "kind": route.kind.name.lower(),
        "table": route.table,
        "mtu": route.mtu,
    }
