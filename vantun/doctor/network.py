"""Interfaces and their MTU, IPv6, forwarding, TUN, the packet filter, and what UDP can do here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.errors import Unavailable
from vantun.doctor.finding import Finding, note, ok, problem, warning

if TYPE_CHECKING:
    from drivers.linux.probe import UdpProbe

BASE_MTU = 1228
"""Bytes of an IPv4 packet that carries a full packet of 1200 B; IPv6 needs 20 more."""


def interfaces(root: Path) -> list[Finding]:
    """See whether every interface that is up takes a full packet."""
    findings = []
    for place in sorted((root / "sys/class/net").glob("*")):
        state, mtu = _text(place / "operstate"), _text(place / "mtu")
        if place.name == "lo" or not mtu.isdigit() or state not in ("up", "unknown"):
            continue
        subject = f"interface {place.name}"
        if int(mtu) < BASE_MTU + 20:
            step = f"ip link set dev {place.name} mtu 1500"
            findings.append(problem(subject, f"its MTU is {mtu}: a path needs {BASE_MTU + 20}", step))
        else:
            findings.append(ok(subject, f"{state}, MTU {mtu}"))
    if not findings:
        findings.append(problem("interfaces", "none is up besides the loopback", "ip link; ip link set dev NAME up"))
    return findings


def ipv6(root: Path) -> Finding:
    """See whether this machine has IPv6."""
    if not (root / "proc/net/if_inet6").exists():
        return note(
            "IPv6", "the kernel has none: targets and servers are reached by IPv4", "boot without ipv6.disable=1"
        )
    if _text(root / "proc/sys/net/ipv6/conf/all/disable_ipv6") == "1":
        return note("IPv6", "it is switched off", "sysctl -w net.ipv6.conf.all.disable_ipv6=0")
    return ok("IPv6", "on")


def tun(root: Path, *, needed: bool) -> Finding:
    """See whether TUN devices can be made."""
    if (root / "dev/net/tun").exists():
        return ok("TUN", "/dev/net/tun is there")
    step = "modprobe tun; in a container give it the device: --device /dev/net/tun"
    if needed:
        return problem("TUN", "/dev/net/tun is missing, and the configuration has `tun`", step)
    return note("TUN", "/dev/net/tun is missing: no L3 tunnel", step)


def packet_filter(*, needed: bool, which: Callable[[str], str | None] = shutil.which) -> Finding:
    """See whether nft is there: it clamps the MSS, and translates addresses on a server with `tun`."""
    place = which("nft")
    if place:
        return ok("nftables", place)
    step = "apt-get install -y nftables"
    if needed:
        return problem("nftables", "nft is missing, and the configuration has `tun`", step)
    return note("nftables", "nft is missing: only `tun` needs it", step)


def offloads(probe: Callable[[], UdpProbe] | None = None) -> list[Finding]:
    """See by use what the kernel does for UDP: batches, segmentation, merging."""
    found = (probe or _probe)()
    findings = []
    for subject, answer in (("UDP batches", found.batches), ("UDP GSO", found.gso), ("UDP GRO", found.gro)):
        if isinstance(answer, Unavailable):
            findings.append(warning(subject, answer.reason, answer.next_step))
        else:
            findings.append(ok(subject, "works"))
    return findings


def _probe() -> UdpProbe:
    from drivers.linux.probe import probe_udp

    return probe_udp()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # gone, or not for this kind of interface
        return ""
