"""What a measurement of engines is true for: processor, kernel, devices and their firmware, libraries, versions.

When any of it changes, the profile is another machine's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from platform import python_version

from accel import __vantun__
from accel.sight import find_library, listing, pci_devices, read_text
from drivers.build_id import build_id
from drivers.cpu import read_cpu

_LIBRARIES = (
    "libisal.so.2",
    "libIPSec_MB.so.1",
    "libIPSec_MB.so.2",
    "libcrypto.so.3",
    "libcuda.so.1",
    "libOpenCL.so.1",
    "libqat.so.4",
    "libdoca_common.so.2",
)
_PACKAGES = (
    "numpy",
    "cryptography",
    "numba",
    "llvmlite",
    "cupy",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "nvidia-cuda-nvrtc-cu12",
    "pyopencl",
)
"""Distributions: cupy's wheels are called by the CUDA that they are for."""
_FIRMWARE = ("fw_ver", "fw_version", "firmware_version", "revision")
"""Files beside a PCI device, or in its class folder, that name what runs in it."""
_VENDORS = (0x8086, 0x10DE, 0x15B3, 0x10EE, 0x1002)
"""Whose devices could be engines: Intel, NVIDIA (and Mellanox), AMD (and Xilinx)."""

Fingerprint = dict[str, object]


def fingerprint(sysroot: Path = Path("/"), more: Iterable[str] = ()) -> Fingerprint:
    """Return what this machine is, as JSON; ``more`` are distributions whose versions count, too (plug-ins)."""
    cpu = read_cpu(sysroot)
    return {
        "cpu": cpu.model,
        "flags": sorted(cpu.flags),
        "microcode": cpu.microcode,
        "kernel": read_text(sysroot / "proc/sys/kernel/osrelease"),
        "pci": sorted(
            f"{device.vendor:04x}:{device.device:04x} {_firmware(sysroot / 'sys/bus/pci/devices' / device.address)}"
            for device in pci_devices(sysroot)
            if device.vendor in _VENDORS
        ),
        "firmware": sorted(
            f"{path.parent.name} {read_text(path)}" for path in listing(sysroot / "sys/class/infiniband", "*/fw_ver")
        ),
        "libraries": {name: _library(name, sysroot) for name in _LIBRARIES},
        "packages": {name: _version(name) for name in (*_PACKAGES, *more)},
        "engines": _engines(),
        "vantun": __vantun__,
        "python": python_version(),
    }


def digest(found: Fingerprint) -> str:
    """Return the fingerprint in 64 hex digits."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _firmware(device: Path) -> str:
    return " ".join(read_text(device / name) for name in _FIRMWARE if (device / name).exists())


def _library(soname: str, sysroot: Path) -> str:
    found = find_library([soname], sysroot)
    return build_id(found) if found else ""


def _version(package: str) -> str:
    # With email and zipfile it is 1 MB, which a worker never uses.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _engines() -> str:
    """Return a digest of the engines' own sources by size and time: in a checkout they change without a version."""
    root = Path(__file__).parent
    found = hashlib.sha256()
    sources = (*root.rglob("*.py"), *root.rglob("*.h"), *root.parent.joinpath("drivers").rglob("*.py"))
    for path in sorted(sources):
        facts = path.stat()
        found.update(f"{path.relative_to(root.parent)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]
