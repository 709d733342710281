"""Addresses for the clients of a server's TUN: who has which, and who may have it. Sans-IO.

An address is a session's until the session ends. Never given: the network's own address, the broadcast address (IPv4),
the subnet-router anycast address (IPv6), the server's, and what is reserved for another user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from vantun.config_tun import IPAddress, IPInterface, IPNetwork

MOST_LOOKS = 1 << 16
"""Addresses that are looked at before a network counts as full; every /16 is searched whole."""


class PoolError(Exception):
    """There is no address to give; says why."""


class AddressPool:
    """All addresses of one device.

    Parameters
    ----------
    own
        The server's addresses, each with its network: one network for each address of a client.
    ranges
        Networks, within these, that addresses are taken from; a family without any takes its whole network.
    reserved
        User -> addresses that are his only.
    """

    def __init__(
        self,
        own: Iterable[IPInterface],
        ranges: Iterable[IPNetwork] = (),
        reserved: Mapping[str, tuple[IPAddress, ...]] | None = None,
    ) -> None:
        self._own = tuple(own)
        self._ranges = tuple(ranges)
        self._reserved = dict(reserved or {})
        self._owner = {address: user for user, addresses in self._reserved.items() for address in addresses}
        self._taken: dict[IPAddress, int] = {}
        self._sessions: dict[int, tuple[IPInterface, ...]] = {}
        self._cursor: dict[IPNetwork, int] = {}

    @property
    def gateways(self) -> tuple[IPInterface, ...]:
        """The server's addresses."""
        return self._own

    def of(self, session: int) -> tuple[IPInterface, ...]:
        """Return the addresses of a session; none if it has asked for none."""
        return self._sessions.get(session, ())

    def holder(self, address: IPAddress) -> int | None:
        """Return the session that has an address."""
        return self._taken.get(address)

    def assign(self, session: int, user: str, wanted: Iterable[IPAddress] = ()) -> tuple[IPInterface, ...]:
        """Give a session its addresses: one of each network, the wanted ones if the user may have them.

        A session that has addresses keeps them. A wanted address that is taken or reserved is replaced by another one;
        one that is in none of the networks is an error, because nothing would reach it. A reserved address moves to the
        newest session of its user, whose old machine may just have lost its power.

        Raises
        ------
        PoolError
            When a network is full, or a wanted address is in none of them.
        """
        if session in self._sessions:
            return self._sessions[session]
        wishes = list(wanted)
        for wish in wishes:
            if not any(wish in own.network for own in self._own if own.version == wish.version):
                networks = ", ".join(str(own.network) for own in self._own)
                raise PoolError(
                    f"{wish} is in none of the networks here ({networks}); ask for one of them, or for none"
                )
        given = tuple(self._choose(own, user, wishes) for own in self._own)
        for address in given:
            before = self._taken.get(address.ip)
            if before is not None:
                self._sessions[before] = tuple(it for it in self._sessions[before] if it != address)
            self._taken[address.ip] = session
        self._sessions[session] = given
        return given

    def release(self, session: int) -> None:
        """Take the addresses of a session back; nothing happens when it has none."""
        for address in self._sessions.pop(session, ()):
            if self._taken.get(address.ip) == session:
                del self._taken[address.ip]

    def _choose(self, own: IPInterface, user: str, wishes: list[IPAddress]) -> IPInterface:
        network, length = own.network, own.network.prefixlen
        for address in self._reserved.get(user, ()):
            if address.version == network.version and address in network:
                return ip_interface((address.packed, length))
        for address in wishes:
            if address.version == network.version and address in network and self._is_free(own, address):
                return ip_interface((address.packed, length))
        for address in self._candidates(own):
            if self._is_free(own, address):
                return ip_interface((address.packed, length))
        taken = sum(address in network for address in self._taken if address.version == network.version)
        raise PoolError(f"no address of {network} is free, {taken} are taken; widen `tun.address` or `tun.clients`")

    def _candidates(self, own: IPInterface) -> Iterator[IPAddress]:
        """Yield addresses in order, from behind the last one that was given: one that was just released rests."""
        ranges = [it for it in self._ranges if it.version == own.version and it.subnet_of(own.network)]  # type: ignore[arg-type]
        kind = IPv4Address if own.version == 4 else IPv6Address
        for network in ranges or [own.network]:
            first, size = int(network.network_address), network.num_addresses
            start = self._cursor.get(network, 0)
            for step in range(min(size, MOST_LOOKS)):
                place = (start + step) % size
                self._cursor[network] = place + 1
                yield kind(first + place)

    def _is_free(self, own: IPInterface, address: IPAddress) -> bool:
        network = own.network
        if address in self._taken or address in self._owner or any(address == other.ip for other in self._own):
            return False
        edge = network.max_prefixlen - network.prefixlen
        if edge >= 2 and address == network.network_address:
            return False
        return not (network.version == 4 and edge >= 2 and address == network.broadcast_address)


def parse(packed: Iterable[bytes]) -> list[IPAddress]:
    """Return addresses of a message."""
    return [ip_address(address) for address in packed]
