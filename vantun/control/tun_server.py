"""The server's TUN: who has which addresses, what is routed to whom, and what this machine's kernel is told for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Protocol

from drivers.errors import DriverError
from drivers.linux.network import Route
from drivers.linux.tun import TCP_OFFLOADS, TunOffload
from vantun.config_tun import IPInterface, IPNetwork, ServerTunConfig
from vantun.control.address_pool import AddressPool, PoolError, parse
from vantun.control.message_fields import readable
from vantun.control.session_messages import MAX_EXPLANATION, Prefix, TunAnswer, TunCode, TunRequest
from vantun.control.tun_firewall import Firewall
from vantun.control.tun_interface import NUMBER, Kernel, TunInterface
from vantun.control.tun_link import TunLink
from vantun.control.tun_mtu import inner_mtu
from vantun.control.tun_record import TunRecords
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError

log = logging.getLogger(__name__)

METRIC = 2000
"""Of the routes to clients: what the machine has itself to the same network goes first."""
ETHERNET = 1500
"""Least MTU of the device: a route to a client says what fits, and the device must not be in its way."""


class ServerLink(Protocol):
    """What the worker is told."""

    def attach_tun(self, handle: int) -> None:
        """Carry packets on a flow."""

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        """Refuse a flow."""


@dataclass
class _Client:
    user: str
    prefixes: tuple[IPNetwork, ...] = ()
    asked_mtu: int = 0
    """What the client takes, 0 = any."""
    mtu: int = 0
    takes: int = int(TCP_OFFLOADS)
    """Unfinished packets that its kernel takes (TunOffload)."""
    flow: bool = False


class TunServer:
    """Made by :meth:`open`. Every method that may fail logs, and leaves the server serving."""

    def __init__(self, config: ServerTunConfig, interface: TunInterface, rules: bytes = b"") -> None:
        self.interface = interface
        self._rules = rules
        self._config = config
        self._pool = AddressPool(config.addresses, config.clients, {user.name: user.addresses for user in config.users})
        self._allowed = {user.name: user.prefixes for user in config.users}
        self._clients: dict[int, _Client] = {}
        self._lanes: dict[int, int] = {}
        self._link: TunLink | None = None

    @classmethod
    async def open(
        cls,
        config: ServerTunConfig,
        records: TunRecords,
        rules: bytes = b"",
        kernel: Kernel | None = None,
        queues: int = 1,
    ) -> TunServer:
        """Create the interface and set forwarding, address translation and the packet filter.

        Parameters
        ----------
        rules
            Rows of ``AccessList.packet_rules``, which packets are judged by.
        queues
            Of the interface, one for each worker.

        Raises
        ------
        ResourceError
            When this machine refuses; says what to do. Everything is undone then.
        """
        try:
            kernel = kernel or Kernel(queues=queues)
        except DriverError as error:
            raise ResourceError(f"tun: {error}") from None
        interface = await TunInterface.open(config.name, records, kernel, offload=config.offload)
        server = cls(config, interface, rules)
        try:
            server._set_up()
        except DriverError as error:
            interface.close()
            raise ResourceError(f"tun: {error}") from None
        except BaseException:
            interface.close()
            raise
        return server

    def _set_up(self) -> None:
        config, interface = self._config, self.interface
        firewall = Firewall(interface.name, interface.mark, nat=config.nat, between_clients=config.client_to_client)
        if not interface.set_firewall(firewall) and (config.nat or not config.client_to_client):
            needed = "tun.nat" if config.nat else "tun.clientToClient: false"
            raise ResourceError(
                f"tun: {needed} needs nftables: {next(iter(interface.missing.values()))}"
                + ("; or set tun.nat: false, and route the clients' networks to this machine" if config.nat else "")
            )
        given = interface.configure(config.addresses, max(ETHERNET, config.mtu))
        interface.set_forwarding(address.version for address in given)

    # --- the worker

    def use_rules(self, rules: bytes) -> None:
        """Judge packets by other rows of ``AccessList.packet_rules`` from now on."""
        self._rules = rules
        if self._link is not None:
            self._link.set_packet_rules(rules)

    def begin(self, link: TunLink) -> None:
        """Tell a new worker everything."""
        self._link = link
        link.set_packet_rules(self._rules)
        device = self.interface.device
        link.add_tun(
            NUMBER,
            self.interface.descriptors,
            client=False,
            client_to_client=self._config.client_to_client,
            offloads=int(device.takes),
        )
        for session, client in self._clients.items():
            client.flow = False
            self._tell(session)

    def abandon(self) -> None:
        """Learn that the worker is lost."""
        self._link = None

    def opened(self, link: ServerLink, handle: int, session: int) -> None:
        """Take a flow of packets that a client has opened."""
        if session in self._clients:
            link.attach_tun(handle)
        else:
            link.refuse_flow(handle, RefusalCode.NOT_ALLOWED)

    def flow(self, session: int, *, is_open: bool) -> None:
        """Learn whether packets of a session flow."""
        if session in self._clients:
            self._clients[session].flow = is_open

    # --- sessions

    def request(self, session: int, user: str, peers: Iterable[str], request: TunRequest) -> TunAnswer:
        """Give a session its addresses and routes; return the answer to its client.

        Parameters
        ----------
        peers
            Addresses that the session's paths come from.
        """
        try:
            addresses = self._pool.assign(session, user, parse(request.addresses))
        except PoolError as error:
            log.warning("tun: %s gets no address: %s", user, error)
            return _refusal(TunCode.NO_ADDRESS, str(error))
        client = self._clients.setdefault(session, _Client(user))
        client.asked_mtu, client.takes = request.mtu, request.offloads
        wanted = [prefix.network() for prefix in request.prefixes]
        client.prefixes, reasons = self._judge(session, user, wanted, [ip_address(peer) for peer in peers])
        client.mtu = self._mtu(session)
        try:
            self.interface.leave(known.takes for known in self._clients.values())
            self._set_routes()
        except DriverError as error:
            log.error("tun: the routes to %s cannot be set: %s", user, error)
            self.forget(session)
            return _refusal(TunCode.FAILED, "the server's machine refuses the routes; its log says why")
        for other in [it for it, known in self._clients.items() if known.user == user]:
            self._tell(other)  # a reserved address, or a prefix, may have moved from an older session to this one
        log.info("tun: session %x of %s has %s", session, user, ", ".join(map(str, (*addresses, *client.prefixes))))
        return TunAnswer(
            code=TunCode.GRANTED,
            reason=readable("; ".join(reasons), MAX_EXPLANATION),
            addresses=tuple(Prefix.of(address) for address in addresses),
            gateways=tuple(gateway.ip.packed for gateway in self._pool.gateways),
            prefixes=tuple(Prefix.of(prefix) for prefix in client.prefixes),
            mtu=self._config.mtu,
            offloads=int(self.interface.device.takes),
        )

    def _judge(
        self, session: int, user: str, wanted: list[IPNetwork], peers: list[object]
    ) -> tuple[tuple[IPNetwork, ...], list[str]]:
        """Return the announced networks that are accepted, and why others are not."""
        accepted: dict[IPNetwork, None] = {}
        reasons: list[str] = []
        for network in wanted:
            reason = ""
            owner = next(
                (it for other, it in self._clients.items() if other != session and network in it.prefixes), None
            )
            if not any(_within(network, allowed) for allowed in self._allowed.get(user, ())):
                reason = f"{network} is not allowed to this user"
            elif any(peer in network for peer in peers):
                reason = f"{network} contains the client's own address outside the tunnel"
            elif owner is not None and owner.user != user:
                reason = f"{network} is routed to another user"
            elif owner is not None:
                owner.prefixes = tuple(prefix for prefix in owner.prefixes if prefix != network)
            if reason:
                log.warning("tun: %s announces in vain: %s", user, reason)
                reasons.append(reason)
            else:
                accepted[network] = None
        return tuple(accepted), reasons

    def forget(self, session: int) -> None:
        """Take back what a session had."""
        self._pool.release(session)
        if self._clients.pop(session, None) is None:
            return
        self._lanes.pop(session, None)
        try:
            self.interface.leave(known.takes for known in self._clients.values())
            self._set_routes()
        except DriverError as error:
            log.warning("tun: the routes of session %x are not removed: %s", session, error)

    def watch(self, lanes: Mapping[int, int]) -> None:
        """Follow the paths' MTUs: ``lanes`` has the smallest UDP payload of each session's paths, bytes."""
        self._lanes = dict(lanes)
        changed = False
        for session, client in self._clients.items():
            mtu = self._mtu(session)
            changed |= mtu != client.mtu
            client.mtu = mtu
        if changed:
            try:
                self._set_routes()
            except DriverError as error:
                log.warning("tun: the MTU of a client is not set: %s", error)

    def _mtu(self, session: int) -> int:
        lane = self._lanes.get(session, 0)
        mtu = inner_mtu([lane] if lane else [], self._config.mtu)
        asked = self._clients[session].asked_mtu
        return max(1280, min(mtu, asked)) if asked else mtu

    def _set_routes(self) -> None:
        """Tell the kernel what lies behind each client, and how large a packet to it may be."""
        index = self.interface.index
        routes: list[Route] = []
        for session, client in self._clients.items():
            networks = [_host(address) for address in self._pool.of(session)]
            networks += client.prefixes
            routes += [Route(network, index, metric=METRIC, mtu=client.mtu) for network in networks]
        self.interface.set_mtu(max([ETHERNET, self._config.mtu, *(client.mtu for client in self._clients.values())]))
        self.interface.set_routes(routes)

    def _tell(self, session: int) -> None:
        if self._link is not None:
            addresses = [str(address.ip) for address in self._pool.of(session)]
            self._link.set_tun_routes(session, addresses, [str(prefix) for prefix in self._clients[session].prefixes])

    # --- the end, and what is shown

    def close(self) -> None:
        """Undo everything."""
        self.interface.close()

    def report(self) -> dict[str, object]:
        """Return the section of the status."""
        clients = [
            {
                "session": f"{session:x}",
                "user": client.user,
                "addresses": [str(address.ip) for address in self._pool.of(session)],
                "prefixes": [str(prefix) for prefix in client.prefixes],
                "mtu": client.mtu,
                "flow": client.flow,
            }
            for session, client in self._clients.items()
        ]
        return {
            **self.interface.report(),
            "nat": self._config.nat,
            "client_to_client": self._config.client_to_client,
            "clients": clients,
        }


def _refusal(code: TunCode, reason: str) -> TunAnswer:
    return TunAnswer(code, readable(reason, MAX_EXPLANATION), (), (), (), 0, int(TunOffload.NONE))


def _within(network: IPNetwork, allowed: IPNetwork) -> bool:
    return network.version == allowed.version and network.subnet_of(allowed)  # type: ignore[arg-type]


def _host(address: IPInterface) -> IPNetwork:
    return ip_network(address.ip)
