"""Interfaces and their MTU, IPv6, forwarding, TUN, the packet filter, and what UDP can do here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.errors import Capability, Unavailable
from drivers.linux.ethtool import probe_uso
from drivers.linux.nftables import probe_nft
from drivers.linux.tun import probe_tun
from drivers.linux.tun_steering import probe_tun_steering
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


def segmentation(root: Path, probe: Callable[[str], Capability | Unavailable] = probe_uso) -> list[Finding]:
    """See which interfaces that are up split UDP messages themselves; where none does, the kernel has more to do."""
    findings = []
    for place in sorted((root / "sys/class/net").glob("*")):
        if place.name == "lo" or _text(place / "operstate") not in ("up", "unknown"):
            continue
        answer = probe(place.name)
        subject = f"USO of {place.name}"
        if isinstance(answer, Unavailable):
            findings.append(note(subject, answer.reason, answer.next_step))
        else:
            findings.append(ok(subject, "it splits UDP messages in hardware"))
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


def tun(*, needed: bool, probe: Callable[[], Capability | Unavailable] = probe_tun) -> list[Finding]:
    """See whether this process could make a TUN device, and what the driver can do."""
    answer = probe()
    findings = [_for_tun("TUN", answer, needed=needed)]
    facts = {} if isinstance(answer, Unavailable) else answer.facts
    for fact, what, instead in (
        ("vnet_hdr", "virtio-net headers", "packets pass one by one, and the kernel completes them"),
        ("multi_queue", "several queues", "one worker carries all packets"),
    ):
        if facts.get(fact) is False:
            step = "use another kernel (Linux 3.8 or newer has both), or accept it"
            findings.append(warning(f"TUN {fact}", f"the driver has no {what}: {instead}", step))
    return findings


def tun_steering(*, needed: bool, probe: Callable[[], str] = probe_tun_steering) -> Finding:
    """See whether this process may choose the queues of a TUN device, so that flows move between workers."""
    reason = probe()
    if not reason:
        return ok("TUN steering", "works")
    said = f"the kernel chooses the queues of several workers, and no load is moved: {reason}"
    return (warning if needed else note)("TUN steering", said, "give CAP_BPF, or use one worker (workers.count: 1)")


def packet_filter(*, needed: bool, probe: Callable[[], Capability | Unavailable] = probe_nft) -> Finding:
    """See whether nft works: it clamps the MSS, and translates addresses on a server with `tun`."""
    return _for_tun("nftables", probe(), needed=needed)


def _for_tun(subject: str, answer: Capability | Unavailable, *, needed: bool) -> Finding:
    if not isinstance(answer, Unavailable):
        return ok(subject, "works")
    if needed:
        return problem(subject, f"{answer.reason}, and the configuration has `tun`", answer.next_step)
    return note(subject, f"{answer.reason}: no L3 tunnel", answer.next_step)


def offloads(probe: Callable[[], UdpProbe] | None = None) -> list[Finding]:
    """See by use what the kernel does for UDP: batches, segmentation, merging."""
    found = (probe or _probe)()
    findings = []
    for subject, answer in _kinds(found):
        if isinstance(answer, Unavailable):
            findings.append(warning(subject, answer.reason, answer.next_step))
        else:
            findings.append(ok(subject, "works"))
    return findings


def _kinds(found: UdpProbe) -> tuple[tuple[str, Capability | Unavailable], ...]:
    return (("UDP batches", found.batches), ("UDP GSO", found.gso), ("UDP GRO", found.gro), ("UDP ECN", found.ecn))


def _probe() -> UdpProbe:
    from drivers.linux.probe import probe_udp

    return probe_udp()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # gone, or not for this kind of interface
        return ""
