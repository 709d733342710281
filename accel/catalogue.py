"""Every engine that VANTUN knows by name: the rows of ``vantun accel probe``.

A row says how to look for its device and, where this version has the engine, how to make it. Rows are in the order of
rank: among engines that nobody measured yet and nobody named, the first that passes its self-test serves. No device
ranks above the CPU by its class (the Linux kernel cut QAT's priority from 4001 to 100, commit 8024774190a5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from accel.engine import Engine, Maturity, Operation, Provenance
from accel.sight import Sighting, combine, either, look_for_library, look_for_module, look_for_paths, look_for_pci
from drivers.cpu import read_cpu


class Kind(Enum):
    """What an engine computes, as the configuration calls it."""

    FEC = "fec"
    AEAD = "aead"

    @property
    def operations(self) -> tuple[Operation, Operation]:
        """The operations of this kind."""
        if self is Kind.FEC:
            return Operation.FEC_ENCODE, Operation.FEC_DECODE
        return Operation.AEAD_SEAL, Operation.AEAD_OPEN


LIMIT = 20.0
"""Seconds that a foreign library has for each operation, when it is tried in a child process."""
_COMPILING = 300.0
"""The same of a device that compiles kernels: NVRTC takes 50 s for all of them, PoCL 25 s, on one idle core."""
A_SERVICE = "a service process"
"""How an engine reaches a device that it shares with others; see :mod:`accel.service`."""
_OWN = frozenset({"compiled kernels", "the wheel", "numpy and plain Python", A_SERVICE})


@dataclass(frozen=True)
class Row:
    """One declared engine.

    Attributes
    ----------
    name
        As in the configuration.
    kinds
        What it computes, or will.
    through
        How it reaches its device.
    look
        Looks for its device; loads nothing.
    needs
        What a machine without it would need; a sentence without a full stop.
    make
        For each kind that this version has: imports and returns the engine. It opens no device.
    late
        Whether, for a kind, this CPU makes it rank behind all but the reference.
    emulator
        The engine that stands in for it where it is named and emulators are allowed.
    patience
        Seconds that each step of its trial in a child process may take; a device may compile its kernels meanwhile.
    """

    name: str
    kinds: tuple[Kind, ...]
    provenance: Provenance
    maturity: Maturity
    through: str
    look: Callable[[Path], Sighting]
    needs: str
    make: Mapping[Kind, Callable[[], Engine]]
    late: Callable[[Kind], bool] = lambda _: False
    emulator: str = ""
    patience: float = LIMIT

    @property
    def emulated(self) -> bool:
        """Whether it serves only when named and allowed."""
        return self.provenance in (Provenance.EMULATOR, Provenance.FAKE)

    @property
    def foreign(self) -> bool:
        """Whether it loads somebody else's library, which may abort the process: it is tried in a child first."""
        return self.through not in _OWN


def _simd() -> Engine:
    from accel.fec.simd import SimdFec

    return SimdFec()


def _simd_aead() -> Engine:
    from accel.aead.simd import SimdAead

    return SimdAead()


def _simd_is_late(kind: Kind) -> bool:
    """Say whether AES is computed without instructions for it: in constant time, 20 times slower than by the wheel."""
    return kind is Kind.AEAD and "aes" not in read_cpu().flags


def _isal() -> Engine:
    from accel.fec.isal import IsalFec

    return IsalFec()


def _ipsec_mb() -> Engine:
    from accel.aead.ipsec_mb import IpsecMbAead

    return IpsecMbAead()


def _openssl() -> Engine:
    from accel.aead.openssl import OpensslAead

    return OpensslAead()


def _cryptography() -> Engine:
    from accel.aead.cryptography import CryptographyAead

    return CryptographyAead()


def _reference() -> Engine:
    from accel.reference.engine import ReferenceEngine

    return ReferenceEngine()


def _cuda(kind: Kind) -> Callable[[], Engine]:
    def make() -> Engine:
        from accel.device.cuda import cuda_engine

        return cuda_engine(frozenset(kind.operations))

    return make


def _opencl(kind: Kind, *, emulated: bool) -> Callable[[], Engine]:
    def make() -> Engine:
        from accel.device.opencl import opencl_engine

        return opencl_engine(frozenset(kind.operations), emulated=emulated)

    return make


_BOTH = (Kind.FEC, Kind.AEAD)
_INTEL, _NVIDIA, _MELLANOX, _XILINX = 0x8086, 0x10DE, 0x15B3, 0x10EE
_DISPLAY = 0x03
"""PCI base class."""
_QAT_DEVICES = tuple(
    each
    for physical in (0x4940, 0x4942, 0x4944, 0x4946, 0x4948, 0x0435, 0x37C8, 0x19E2, 0x6F54)
    for each in (physical, physical + 1)
)
"""Physical functions and, one above, virtual ones: 4xxx, 401xx, 402xx, 420xx, 6xxx; dh895xcc, c6xx, c3xxx, d15xx."""
_BLUEFIELD = (0xA2D6, 0xA2DC)
"""BlueField-2 and -3: the NICs whose DOCA has erasure coding."""


def _look_cuda(sysroot: Path) -> Sighting:
    return combine(
        either(
            look_for_pci("NVIDIA GPU", sysroot, _NVIDIA, kind=_DISPLAY),
            look_for_paths("NVIDIA device nodes", sysroot / "dev", "nvidia[0-9]*"),
        ),
        look_for_library("CUDA driver", ["libcuda.so.1"], sysroot),
        look_for_module("cupy"),
    )


def _look_opencl(sysroot: Path) -> Sighting:
    return combine(
        look_for_paths("OpenCL driver (ICD) of a device", sysroot / "etc/OpenCL/vendors", "*.icd", but="pocl"),
        look_for_library("OpenCL loader", ["libOpenCL.so.1"], sysroot),
        look_for_module("pyopencl"),
    )


def _look_pocl(sysroot: Path) -> Sighting:
    return combine(
        either(
            look_for_paths("PoCL driver (ICD)", sysroot / "etc/OpenCL/vendors", "pocl*.icd"),
            look_for_module("pocl_binary_distribution"),
        ),
        look_for_module("pyopencl"),
    )


def _look_fpga(sysroot: Path) -> Sighting:
    return either(
        look_for_pci("AMD/Xilinx card", sysroot, _XILINX),
        look_for_paths("XDMA character devices", sysroot / "dev", "xdma*"),
        look_for_paths("Intel FPGA (DFL) ports", sysroot / "dev", "dfl-port.*"),
        look_for_paths("FPGA managers", sysroot / "sys/class/fpga_manager", "*"),
    )


def _look_qat(sysroot: Path) -> Sighting:
    return combine(
        look_for_pci("QAT device", sysroot, _INTEL, _QAT_DEVICES),
        look_for_library("qatlib", ["libqat.so.4"], sysroot),
        look_for_paths("VFIO groups", sysroot / "dev/vfio", "[0-9]*"),
    )


def _look_smartnic(sysroot: Path) -> Sighting:
    return combine(
        look_for_pci("BlueField", sysroot, _MELLANOX, _BLUEFIELD),
        look_for_library("DOCA", ["libdoca_common.so.2", "libdoca_common.so.1"], sysroot),
        look_for_paths("RDMA devices", sysroot / "sys/class/infiniband", "*"),
    )


def _library(name: str, *sonames: str) -> Callable[[Path], Sighting]:
    return lambda sysroot: look_for_library(name, sonames, sysroot)


_SILICON, _CPU, _EMULATOR = Provenance.SILICON, Provenance.CPU, Provenance.EMULATOR
_UNTESTED = Maturity.UNTESTED

CATALOGUE: tuple[Row, ...] = (
    Row(
        "simd", _BOTH, _CPU, Maturity.TESTED_ON_HARDWARE, "compiled kernels",
        lambda _: look_for_module("numpy"), "the Python package numpy", {Kind.FEC: _simd, Kind.AEAD: _simd_aead},
        _simd_is_late,
    ),
    Row(
        "cryptography", (Kind.AEAD,), _CPU, Maturity.TESTED_ON_HARDWARE, "the wheel",
        lambda _: look_for_module("cryptography"), "the Python package cryptography", {Kind.AEAD: _cryptography},
    ),
    Row(
        "isal", (Kind.FEC,), _CPU, Maturity.TESTED_ON_HARDWARE, "ctypes",
        _library("ISA-L", "libisal.so.2"), "apt-get install libisal2", {Kind.FEC: _isal},
    ),
    Row(
        "ipsec-mb", (Kind.AEAD,), _CPU, Maturity.TESTED_ON_HARDWARE, "ctypes",
        _library("Intel IPsec-MB", "libIPSec_MB.so.1", "libIPSec_MB.so.2"), "apt-get install libipsec-mb1",
        {Kind.AEAD: _ipsec_mb},
    ),
    Row(
        "openssl", (Kind.AEAD,), _CPU, Maturity.TESTED_ON_HARDWARE, "ctypes",
        _library("OpenSSL", "libcrypto.so.3"), "apt-get install libssl3", {Kind.AEAD: _openssl},
    ),
    Row(
        "cuda", _BOTH, _SILICON, Maturity.PROTOCOL_TESTED, "CUDA driver",
        _look_cuda, "an NVIDIA GPU with its driver, and pip install 'vantun[cuda]'",
        {kind: _cuda(kind) for kind in _BOTH}, patience=_COMPILING,
    ),
    Row(
        "opencl", _BOTH, _SILICON, Maturity.PROTOCOL_TESTED, "ICD of a GPU",
        _look_opencl, "a GPU with an OpenCL driver, and pip install 'vantun[opencl]'",
        {kind: _opencl(kind, emulated=False) for kind in _BOTH}, emulator="pocl",
        patience=_COMPILING,
    ),
    Row(
        "fpga", _BOTH, _SILICON, _UNTESTED, "OpenCL binary, XDMA, fpga_manager",
        _look_fpga, "an FPGA card and its driver", {},
    ),
    Row(
        "qat", (Kind.AEAD,), _SILICON, _UNTESTED, "libqat by ctypes",
        _look_qat, "a QAT device with service sym, qatlib, and membership of the group qat", {},
    ),
    Row(
        "smartnic", _BOTH, _SILICON, _UNTESTED, "libdoca by ctypes",
        _look_smartnic, "a BlueField-2 or -3 and NVIDIA DOCA", {},
    ),
    Row(
        "pocl", _BOTH, _EMULATOR, Maturity.PROTOCOL_TESTED, "ICD of PoCL",
        _look_pocl, "pip install 'vantun[pocl]'",
        {kind: _opencl(kind, emulated=True) for kind in _BOTH}, patience=_COMPILING,
    ),
    Row(
        "sim-fpga", _BOTH, _EMULATOR, _UNTESTED, "Verilated RTL",
        lambda _: Sighting(present=False, missing=("the simulated card",)), "the RTL, which comes with fpga", {},
    ),
    Row(
        "reference", _BOTH, _CPU, Maturity.TESTED_ON_HARDWARE, "numpy and plain Python",
        lambda _: look_for_module("numpy"), "the Python package numpy", {Kind.FEC: _reference, Kind.AEAD: _reference},
    ),
)  # fmt: skip
