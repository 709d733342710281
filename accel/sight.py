"""A look at a machine that loads no library, opens no device and changes nothing.

It reads files below ``sysroot`` and asks for Python packages without importing them. What is not readable counts as not
seen; a look never raises.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_LIBRARY_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64")


@dataclass(frozen=True)
class Sighting:
    """What a look found.

    Attributes
    ----------
    present
        Whether the device, or the library that stands for it, is there.
    seen, missing
        What was found and what was not, as phrases.
    """

    present: bool
    seen: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class PciDevice:
    """One entry of ``/sys/bus/pci/devices``; numbers as in the files."""

    address: str
    vendor: int
    device: int
    kind: int
    """Class code, 24 bits."""

    def __str__(self) -> str:
        return f"PCI {self.vendor:04x}:{self.device:04x} at {self.address}"


def read_text(path: Path) -> str:
    """Return the stripped text of a small file, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def listing(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the entries of a folder in order, none when it cannot be read."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def pci_devices(sysroot: Path) -> Iterator[PciDevice]:
    """Yield every PCI function that sysfs knows."""
    for entry in listing(sysroot / "sys/bus/pci/devices"):
        try:
            vendor, device, kind = (int(read_text(entry / name), 16) for name in ("vendor", "device", "class"))
        except ValueError:  # the device went away while we looked, or the file may not be read
            continue
        yield PciDevice(entry.name, vendor, device, kind)


def library_folders(sysroot: Path) -> list[Path]:
    """Return where the dynamic linker looks: the usual folders, ``ld.so.conf``, and LD_LIBRARY_PATH of this machine."""
    folders = [sysroot / name for name in _LIBRARY_FOLDERS]
    folders += [each for name in ("lib", "usr/lib") for each in listing(sysroot / name, "*-linux-gnu")]
    for file in (sysroot / "etc/ld.so.conf", *listing(sysroot / "etc/ld.so.conf.d", "*.conf")):
        lines = (line.split("#")[0].strip() for line in read_text(file).splitlines())
        folders += [sysroot / line.lstrip("/") for line in lines if line.startswith("/")]
    if sysroot == Path("/"):
        folders += [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    return folders


def find_library(sonames: Iterable[str], sysroot: Path) -> Path | None:
    """Return the file of the first library that is installed; it is not loaded, as some abort the process."""
    folders = library_folders(sysroot)
    for soname in sonames:
        for folder in folders:
            try:
                if (folder / soname).exists():
                    return folder / soname
            except OSError:  # a folder that may not be searched
                continue
    return None


def find_module(name: str) -> bool:
    """Return whether a Python module could be imported; it is not."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def look_for_library(name: str, sonames: Iterable[str], sysroot: Path) -> Sighting:
    """Return whether one of the files of library ``name`` is installed."""
    sonames = tuple(sonames)
    found = find_library(sonames, sysroot)
    if found is None:
        return Sighting(present=False, missing=(f"{name} ({' or '.join(sonames)})",))
    return Sighting(present=True, seen=(f"{name} ({found.name})",))


def look_for_module(name: str) -> Sighting:
    """Return whether the Python package ``name`` is installed."""
    text = f"Python package {name}"
    return Sighting(present=True, seen=(text,)) if find_module(name) else Sighting(present=False, missing=(text,))


def look_for_paths(what: str, folder: Path, pattern: str, but: str = "") -> Sighting:
    """Return whether a folder has entries that match, ``but`` not those beginning so; ``what`` says what they are."""
    found = [path for path in listing(folder, pattern) if not (but and path.name.startswith(but))]
    if not found:
        return Sighting(present=False, missing=(what,))
    return Sighting(present=True, seen=(f"{what}: {', '.join(path.name for path in found[:8])}",))


def look_for_pci(
    what: str, sysroot: Path, vendor: int, devices: Iterable[int] = (), kind: int | None = None
) -> Sighting:
    """Return whether there is a PCI function of ``vendor``: one of ``devices``, or of base class ``kind``, or any."""
    wanted = frozenset(devices)
    found = [
        each
        for each in pci_devices(sysroot)
        if each.vendor == vendor and (not wanted or each.device in wanted) and kind in (None, each.kind >> 16)
    ]
    if not found:
        return Sighting(present=False, missing=(what,))
    return Sighting(present=True, seen=tuple(f"{what}: {each}" for each in found[:8]))


def combine(first: Sighting, *others: Sighting) -> Sighting:
    """Return one sighting of a device and what it needs beside it; ``first`` alone decides whether it is present."""
    every = (first, *others)
    return Sighting(
        first.present,
        tuple(text for each in every for text in each.seen),
        tuple(text for each in every for text in each.missing),
    )


def either(*ways: Sighting) -> Sighting:
    """Return one sighting of a device that can show itself in several ways."""
    both = combine(*ways)
    return Sighting(any(way.present for way in ways), both.seen, () if both.seen else (" or ".join(both.missing),))
