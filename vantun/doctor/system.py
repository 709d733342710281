"""The kernel and its settings, privileges, open files, memory, processor and clock."""

from __future__ import annotations

import ctypes
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

from drivers.linux.udp_bind import RECEIVE_BUFFER, SEND_BUFFER
from vantun.doctor.finding import Finding, note, ok, problem, warning

NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 10, 12, 13
"""Bits of a capability set (linux/capability.h)."""
FILES_WANTED = 65_536
_STEPS = (((4, 18), "UDP_SEGMENT"), ((5, 0), "UDP_GRO"), ((6, 2), "USO in TUN devices"))
_TIME_ERROR = 5
"""What adjtimex returns while nothing keeps the clock right."""


def kernel_release(root: Path) -> Finding:
    """See whether the kernel has what the data plane uses."""
    text = _read(root / "proc/sys/kernel/osrelease")
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        return problem(
            "kernel", f"this is no Linux that says its version ({text or 'nothing'})", "use Linux 4.18 or newer"
        )
    version = (int(found[1]), int(found[2]))
    lacking = [name for since, name in _STEPS if version < since]
    if lacking:
        step = "install a newer kernel: 6.2 or newer has all of it"
        return warning("kernel", f"Linux {text} has no {', no '.join(lacking)}", step)
    return ok("kernel", f"Linux {text}")


def socket_buffers(root: Path) -> list[Finding]:
    """See whether UDP sockets get the buffers that they ask for; with CAP_NET_ADMIN they do in any case."""
    if has_capability(root, NET_ADMIN):
        return [ok("UDP buffers", "CAP_NET_ADMIN sets them whatever net.core allows")]
    findings = []
    for name, key, wanted in (("receive", "rmem_max", RECEIVE_BUFFER), ("send", "wmem_max", SEND_BUFFER)):
        text = _read(root / f"proc/sys/net/core/{key}")
        granted = int(text) if text.isdigit() else 0
        subject = f"UDP {name} buffer"
        if granted >= wanted:
            findings.append(ok(subject, f"{granted} B are allowed"))
        else:
            said = f"{granted} B are allowed, {wanted} B are used at full rate: bursts will be lost"
            findings.append(warning(subject, said, f"sysctl -w net.core.{key}={wanted}"))
    return findings


def capabilities(root: Path, *, tun: bool, low_port: bool) -> list[Finding]:
    """See whether this user has the privileges that the configuration needs."""
    findings = []
    for bit, name, needed, what in (
        (NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", low_port, "ports below 1024"),
        (NET_ADMIN, "CAP_NET_ADMIN", tun, "TUN devices, routes and transparent proxies"),
    ):
        if has_capability(root, bit):
            findings.append(ok(name, f"granted: {what}"))
        elif needed:
            step = f"use the systemd unit, or: setpriv --ambient-caps +{name.removeprefix('CAP_').lower()} vantun ..."
            findings.append(problem(name, f"not granted, and the configuration needs {what}", step))
        else:
            findings.append(note(name, f"not granted: no {what}", "nothing to do unless you want those"))
    return findings


def has_capability(root: Path, bit: int) -> bool:
    """Return whether this process has a capability in its effective set."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _read(root / "proc/self/status"), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> bit & 1)


def open_files(limit: int | None = None) -> Finding:
    """See how many files may be open: each proxied connection is one in the worker."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    if hard == resource.RLIM_INFINITY or hard >= FILES_WANTED:
        return ok("open files", "unlimited" if hard == resource.RLIM_INFINITY else f"{hard} are allowed")
    step = f"ulimit -Hn {FILES_WANTED} as root, or LimitNOFILE={FILES_WANTED} in the unit"
    return warning("open files", f"{hard} are allowed: about as many proxied connections", step)


def memory(root: Path, wanted: int) -> Finding:
    """See whether there is memory for ``wanted`` bytes of packet buffers, and as much again for the processes."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    if found is None:
        return note("memory", "the kernel does not say how much is available", "look with: free -m")
    free = int(found[1]) * 1024
    needed = wanted + 400_000_000
    said = f"{free >> 20} MiB are available, {needed >> 20} MiB may be used"
    if free >= needed:
        return ok("memory", said)
    return warning("memory", said, "lower limits.memory, or stop other programs")


def processor(root: Path) -> list[Finding]:
    """See what the processor has for encryption and parity, and whether it is held back."""
    flags = set(re.findall(r"[a-z0-9_]+", _line(_read(root / "proc/cpuinfo"), "flags")))
    findings = []
    if flags:
        kinds = [
            name for name in ("aes", "pclmulqdq", "avx2", "avx512f", "vaes", "vpclmulqdq", "gfni") if name in flags
        ]
        text = f"{os.cpu_count()} core(s) with {', '.join(kinds) or 'no vector extensions'}"
        if "aes" in flags:
            findings.append(ok("processor", text))
        else:
            step = "in a virtual machine, pass the host's processor through (QEMU: -cpu host)"
            findings.append(warning("processor", f"{text}: no AES instructions, ChaCha20-Poly1305 is used", step))
    governor = _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor not in ("performance", "schedutil"):
        step = "cpupower frequency-set -g performance"
        findings.append(note("frequency", f"the governor is {governor}: short bursts meet a slow clock", step))
    return findings


def clock(adjtimex: Callable[[], int] | None = None) -> Finding:
    """See whether anything keeps the clock right: certificates are valid by it."""
    state = (adjtimex or _adjtimex)()
    if state == _TIME_ERROR:
        return warning("clock", "nothing keeps it right; certificates may look expired", "timedatectl set-ntp true")
    if state < 0:
        return note("clock", "the kernel does not say whether it is right", "look with: timedatectl")
    return ok("clock", "it is kept right")


def _adjtimex() -> int:
    """Return the kernel's clock state (adjtimex(2)): 0 to 4 fine, 5 not synchronised, negative unknown."""
    space = ctypes.create_string_buffer(512)  # struct timex has 208 B; modes = 0 reads only
    try:
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(space))
    except (OSError, AttributeError):
        return -1


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # what is not there has a meaning of its own for every caller
        return ""


def _line(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:(.*)$", text, re.MULTILINE)
    return found[1] if found else ""
