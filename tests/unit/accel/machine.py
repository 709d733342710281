"""A machine in a folder: the files that a look reads."""

from __future__ import annotations

from pathlib import Path


def add_file(sysroot: Path, name: str, text: str = "") -> None:
    path = sysroot / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_pci(sysroot: Path, address: str, vendor: int, device: int, kind: int) -> None:
    folder = f"sys/bus/pci/devices/{address}"
    for name, value in (("vendor", f"0x{vendor:04x}"), ("device", f"0x{device:04x}"), ("class", f"0x{kind:06x}")):
        add_file(sysroot, f"{folder}/{name}", value + "\n")
