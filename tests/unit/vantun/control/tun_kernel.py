"""The kernel of a machine in memory, as far as a TUN interface needs it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import cast

from drivers.errors import SystemCallError, Unavailable
from drivers.linux.nftables import Nft, NftError
from drivers.linux.tun import ALL_OFFLOADS, TunDevice, TunOffload
from tests.unit.drivers.linux.fake_network import FakeNetwork
from vantun.control.tun_interface import Kernel
from vantun.control.tun_link import Carried, TunLink
from vantun.control.tun_record import TunRecords
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import Command


class FakeDevice:
    """A TUN device without packets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.offloads = ALL_OFFLOADS
        self.takes = ALL_OFFLOADS
        self.missing: tuple[Unavailable, ...] = ()
        self.closed = False

    def set_offloads(self, wanted: TunOffload) -> TunOffload:
        self.offloads = wanted
        return wanted

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class FakeNft(Nft):
    """Remembers tables."""

    def __init__(self) -> None:
        self.scripts: dict[str, str] = {}
        self.refuses = ""

    def apply(self, script: str) -> None:
        if self.refuses:
            raise NftError(self.refuses)
        self.scripts[script.split()[2]] = script

    def tables(self) -> set[tuple[str, str]]:
        return {("inet", name) for name in self.scripts}

    def delete(self, family: str, table: str) -> None:
        del self.scripts[table]

    def counters(self, family: str, table: str) -> dict[str, int]:
        return {"looped": 0}


class FakeKernel(Kernel):
    """All of it; ``busy`` attempts to open a device fail."""

    def __init__(self, *, busy: int = 0) -> None:
        self.net = FakeNetwork()
        self.rules = FakeNft()
        self.settings = {"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0", "ipv4/conf/all/src_valid_mark": "0"}
        self.devices: list[FakeDevice] = []
        self.busy = busy
        self.missing: tuple[Unavailable, ...] = ()
        """Of every device."""
        super().__init__(self._open, self.net, self.rules, self.settings.__setitem__, pause=0.0)

    def _open(self, name: str) -> TunDevice:
        if self.busy:
            self.busy -= 1
            raise SystemCallError(f"creating the TUN interface {name}", errno.EBUSY, "stop the program that holds it")
        self.net.add_link(name)
        self.devices.append(FakeDevice(name))
        self.devices[-1].missing = self.missing
        return cast("TunDevice", self.devices[-1])

    def records(self, folder: Path) -> TunRecords:
        """Return records of this kernel's settings."""
        return TunRecords(folder, self.settings.get, self.settings.__setitem__)


class FakeLink(TunLink):
    """A worker that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.attached: list[int] = []
        self.refused: list[int] = []

    def _post(self, message: Command, sock: Carried | None = None) -> None:
        if sock is not None:
            sock.close()
        self.told.append(message)

    def attach_tun(self, handle: int) -> None:
        self.attached.append(handle)

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        del code
        self.refused.append(handle)

    def of(self, kind: type) -> list[Command]:
        """Return the messages of a kind."""
        return [message for message in self.told if isinstance(message, kind)]
