"""Network namespaces for tests: made with unique names, entered by the calling thread, deleted on failure, too."""

from __future__ import annotations

import ctypes
import itertools
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


@cache
def why_not() -> str:
    """Return why this process cannot make network namespaces, or nothing if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"vt{os.getpid()}probe{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return "" if os.path.exists("/dev/net/tun") else "there is no /dev/net/tun"


@contextmanager
def namespaces(count: int) -> Iterator[list[str]]:
    """Yield the names of ``count`` fresh namespaces with their loopback up."""
    with ExitStack() as stack:
        names = []
        for _ in range(count):
            name = f"vt{os.getpid()}n{next(_numbers)}{secrets.token_hex(2)}"
            ip("netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            ip("-n", name, "link", "set", "lo", "up")
            names.append(name)
        yield names


def ip(*arguments: str) -> None:
    """Run ``ip``; raises AssertionError with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Have what this thread opens meanwhile (sockets, TUN devices) belong to a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.setns(there, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(home)
        os.close(there)
