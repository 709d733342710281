"""The installation: versions, packages that get in each other's way, compiled kernels, and the configuration."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from drivers.kernel_library import KernelLibrary, NoLibrary
from vantun.config import ClientConfig, ServerConfig
from vantun.doctor.finding import Finding, note, ok, problem, warning
from vantun.kernel_cache import use_kernel_cache
from vantun.kernel_place import find_library

_NAME = re.compile(r"^([A-Za-z0-9_.-]+)\s*([^;]*)")
_BOUND = re.compile(r"(>=|<=|<|==|>)\s*([0-9][0-9.]*)")
_OURS = ("vantun", "accel", "drivers")
_SOON = timedelta(days=14)


def python_version(version: tuple[int, ...] | None = None) -> Finding:
    """See whether this Python is new enough."""
    found = tuple(sys.version_info[:3]) if version is None else version
    text = ".".join(map(str, found))
    if found < (3, 11):
        return problem("Python", f"{text} is too old", "install Python 3.11 or newer")
    return ok("Python", text)


def packages(requirements: list[str] | None = None, version: Callable[[str], str] | None = None) -> list[Finding]:
    """See whether every package that VANTUN needs is there, in a version that it was made for."""
    find = version or importlib.metadata.version
    if requirements is None:
        try:
            requirements = importlib.metadata.requires("vantun") or []
        except importlib.metadata.PackageNotFoundError:
            return [note("packages", "VANTUN runs from a checkout that is not installed", "./dev run vantun doctor")]
    wrong = []
    for line in requirements:
        if "extra ==" in line:
            continue
        name, bounds = _NAME.match(line).groups()  # type: ignore[union-attr] # requirements are those of our own wheel
        try:
            have = find(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if not all(_holds(have, sign, bound) for sign, bound in _BOUND.findall(bounds)):
            wrong.append(f"{name} is {have}, wanted {bounds.strip()}")
    if wrong:
        step = "give VANTUN a virtual environment of its own: python3 -m venv .venv && .venv/bin/pip install vantun"
        return [problem("packages", "; ".join(wrong), step)]
    return [ok("packages", "all in their versions")]


def neighbours(owners: Mapping[str, list[str]] | None = None) -> Finding:
    """See whether another distribution has put files into our packages: pip lets it, without a word."""
    found = importlib.metadata.packages_distributions() if owners is None else owners
    strangers = sorted({other for name in _OURS for other in found.get(name, []) if other.lower() != "vantun"})
    if strangers:
        step = f"pip uninstall -y {' '.join(strangers)} && pip install --force-reinstall vantun"
        return problem("neighbours", f"{', '.join(strangers)} installs into our packages, too", step)
    return ok("neighbours", "nobody else installs into vantun, accel or drivers")


def kernels(
    find: Callable[[], KernelLibrary | NoLibrary] = find_library, cache: Callable[[], Path | None] = use_kernel_cache
) -> Finding:
    """See whether kernels are compiled ahead of time, or at least kept: else every start compiles for minutes."""
    found = find()
    if isinstance(found, KernelLibrary):
        return ok("kernels", f"{len(found.entries)} compiled ahead of time for {found.level}, in {found.folder}")
    if importlib.util.find_spec("numba") is None:
        step = f"{found.next_step} on a machine that has numba, or pip install 'vantun[jit]'"
        return problem("kernels", f"none can run: {found.reason}, and numba is missing", step)
    if cache() is None:
        step = "set CACHE_DIRECTORY to a folder that only this user may write, then vantun accel warm"
        return warning("kernels", f"every start compiles for minutes: {found.reason}, and no cache can be kept", step)
    return warning("kernels", f"numba compiles them at the first start: {found.reason}", found.next_step)


def certificate(cert: Path, now: datetime | None = None) -> Finding:
    """See whether the server's certificate is valid now, and for a while."""
    from cryptography import x509

    moment = now or datetime.now(UTC)
    step = "renew it, or make one: vantun cert self-signed"
    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
    except (OSError, ValueError) as error:
        return problem("certificate", f"{cert} cannot be read: {error}", step)
    until = found.not_valid_after_utc
    if moment < found.not_valid_before_utc:
        return problem(
            "certificate", f"{cert} is valid from {found.not_valid_before_utc:%Y-%m-%d} only", "mend the clock"
        )
    if moment > until:
        return problem("certificate", f"{cert} has expired on {until:%Y-%m-%d}", step)
    if until - moment < _SOON:
        return warning("certificate", f"{cert} expires on {until:%Y-%m-%d}", step)
    return ok("certificate", f"{cert} is valid until {until:%Y-%m-%d}")


def port(config: ServerConfig | ClientConfig) -> Finding:
    """See whether the port to listen on is free; one that a running VANTUN holds is not, and that is said."""
    if isinstance(config, ServerConfig):
        endpoint, kind, name = config.listen, socket.SOCK_DGRAM, "UDP"
    else:
        proxy = config.socks5 or config.http
        if proxy is None:
            return ok("port", "no proxy is configured")
        endpoint, kind, name = proxy.listen, socket.SOCK_STREAM, "TCP"
    subject = f"{name} port {endpoint.port}"
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    try:
        family, _, _, _, where = socket.getaddrinfo(endpoint.host or None, endpoint.port, type=kind, flags=flags)[0]
        with socket.socket(family, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
    except OSError as error:
        letter = "u" if kind == socket.SOCK_DGRAM else "t"
        step = f"ss -{letter}lpn sport = :{endpoint.port} shows who holds it (VANTUN itself, if it runs)"
        return warning(subject, f"{endpoint} cannot be bound: {error.strerror}", step)
    return ok(subject, "free")


def _holds(have: str, sign: str, bound: str) -> bool:
    left, right = (tuple(int(part) for part in re.findall(r"\d+", text)) for text in (have, bound))
    size = max(len(left), len(right))
    left, right = left + (0,) * (size - len(left)), right + (0,) * (size - len(right))
    return {">=": left >= right, "<=": left <= right, "<": left < right, ">": left > right, "==": left == right}[sign]
