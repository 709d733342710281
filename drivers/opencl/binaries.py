"""Programs as binaries, with a manifest that is checked before a driver sees them.

A driver may crash on a damaged binary, or accept it (PoCL does both): so each is stored with a manifest of its SHA-256,
its length, the device and the driver it is for, and its kernels, and what does not agree is built anew. FPGA images go
the same way, with a manifest that came with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivers.errors import DriverError
from drivers.opencl.find import OpenclPlace

OPTIONS = ("-cl-std=CL1.2",)
_LARGEST = 256 << 20
"""Bytes of a binary."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a binary.

    Attributes
    ----------
    sha256, length
        Of the binary.
    device, driver
        Which it is for.
    source
        SHA-256 of what it was made from, options included; empty for one that came as a binary.
    kernels
        Names.
    """

    sha256: str
    length: int
    device: str
    driver: str
    source: str
    kernels: tuple[str, ...]


def build_program(
    context: Any, place: OpenclPlace, text: str, kernels: Sequence[str], folder: Path | None = None
) -> Any:
    """Return the built program of ``text``: from its binary in ``folder``, where that is good, else compiled."""
    import pyopencl

    source = hashlib.sha256("\0".join((*OPTIONS, text)).encode()).hexdigest()
    binary = load_binary(folder / source, place, source, kernels) if folder is not None else "no folder"
    if isinstance(binary, bytes):
        program = _from_binary(context, place, binary)
        if program is not None:
            return program
    try:
        program = pyopencl.Program(context, text).build(options=list(OPTIONS))
    except pyopencl.Error as error:
        raise DriverError(f"OpenCL device {place} does not compile our kernels: {error}; report it, please") from None
    if folder is not None:
        store_binary(folder / source, place, source, kernels, program.get_info(pyopencl.program_info.BINARIES)[0])
    return program


def _from_binary(context: Any, place: OpenclPlace, binary: bytes) -> Any | None:
    """Return the program in a binary; None where the driver refuses it, and the source is at hand."""
    import pyopencl

    try:
        return pyopencl.Program(context, [place.handle], [binary]).build()
    except pyopencl.Error:
        return None


def load_binary(base: Path, place: OpenclPlace, source: str, kernels: Sequence[str]) -> bytes | str:
    """Return a binary that its manifest vouches for, or why there is none."""
    try:
        written = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
        manifest = Manifest(**{**written, "kernels": tuple(written["kernels"])})
        if not 0 < manifest.length <= _LARGEST:
            return f"{base.name}: a length of {manifest.length} bytes makes no sense"
        with base.with_suffix(".bin").open("rb") as file:
            binary = file.read(manifest.length + 1)
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"{base.name}: {error}"
    found = describe(binary, place, source, kernels)
    wrong = [name for name, value in asdict(found).items() if value != asdict(manifest)[name]]
    return f"{base.name}: another {', '.join(wrong)} than the manifest says" if wrong else binary


def store_binary(base: Path, place: OpenclPlace, source: str, kernels: Sequence[str], binary: bytes) -> None:
    """Write a binary, then its manifest, each whole or not at all; a cache that cannot be written is none."""
    manifest = describe(binary, place, source, kernels)
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        _replace(base.with_suffix(".bin"), binary)
        _replace(base.with_suffix(".json"), json.dumps(asdict(manifest)).encode())
    except OSError:
        return


def describe(binary: bytes, place: OpenclPlace, source: str, kernels: Sequence[str]) -> Manifest:
    """Return the manifest that a binary should have."""
    digest = hashlib.sha256(binary).hexdigest()
    return Manifest(digest, len(binary), f"{place.platform}: {place.name}", place.driver, source, tuple(kernels))


def _replace(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)
