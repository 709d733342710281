"""Kernel settings below /proc/sys/net, of the network namespace of the calling thread."""

from __future__ import annotations

from pathlib import Path

from drivers.errors import SystemCallError

ROOT = Path("/proc/sys/net")


def read(name: str, root: Path = ROOT) -> str | None:
    """Return a setting like ``ipv4/ip_forward``; None when this kernel has none of the name."""
    try:
        return (root / name).read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SystemCallError(f"reading net/{name}", error.errno or 0, "see `sysctl -a`") from None


def write(name: str, value: str, root: Path = ROOT) -> None:
    """Set a setting. Raises SystemCallError."""
    try:
        (root / name).write_text(value, encoding="ascii")
    except OSError as error:
        shown = name.replace("/", ".")
        step = f"set it before the start (`sysctl -w net.{shown}={value}`), or make /proc/sys writable for this process"
        raise SystemCallError(f"setting net.{shown} to {value}", error.errno or 0, step) from None
