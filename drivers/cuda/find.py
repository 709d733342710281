"""Which CUDA devices there are."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from drivers.cache import cache_base, own_folder
from drivers.errors import DriverError, Unavailable, UnavailableError

INSTALL = "install the NVIDIA driver (nvidia-smi must list the GPU), and pip install 'vantun[cuda]'"
_HIDDEN = "; a systemd unit sees no device without packaging/systemd/gpu.conf"

_ABSENT = frozenset({35, 100})
"""cudaErrorInsufficientDriver, cudaErrorNoDevice."""
_LOST = (214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719)
"""Uncorrectable errors of memory and NVLink, wrong addresses and instructions, traps, kernels that were ended: after
each of them every call of the process fails. Which one a trap is, depends on the GPU."""
_NEXT = {
    2: "end other users of the GPU (nvidia-smi lists them), or run fewer workers",
    46: "another process holds the GPU exclusively; end it, or set its compute mode to default",
    100: "see that nvidia-smi lists the GPU",
    802: "GPUs with NVSwitch wait for the fabric manager: systemctl enable --now nvidia-fabricmanager",
    803: "the driver was changed since it was loaded; restart the machine",
    **dict.fromkeys(_LOST, "the GPU's context is lost; restart the worker, and see dmesg for Xid messages"),
}
"""What to do, by cudaError; codes of the driver's own interface are the same."""
_ELSE = "see nvidia-smi and dmesg; `vantun accel probe` tries it again"


@dataclass(frozen=True)
class CudaPlace:
    """One device.

    Attributes
    ----------
    index
        As CUDA counts.
    name
        As it calls itself.
    capability
        Compute capability, e.g. (9, 0).
    memory
        Bytes.
    processors
        Streaming multiprocessors.
    pci
        Bus address, ``0000:65:00``.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    processors: int
    pci: str

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.capability[0]}{self.capability[1]}, CUDA device {self.index}, PCI {self.pci})"


def load_cupy() -> Any:
    """Return the module cupy; raises UnavailableError without it."""
    if "cupy" not in sys.modules:
        _place_compiled()
    try:
        import cupy
    except (ImportError, OSError) as error:
        raise UnavailableError(Unavailable(f"cupy cannot be imported ({error})", INSTALL)) from None
    return cupy


def _place_compiled() -> None:
    """Have cupy keep what it compiles in VANTUN's cache, and keep nothing where only others could have filled that.

    Its own place is in the home folder, which a service may not have, and it makes that when it is imported.
    """
    if "CUPY_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_base() / "cuda"
        mine = own_folder(folder)
    except RuntimeError:  # no home
        mine = False
    if mine:
        os.environ["CUPY_CACHE_DIR"] = str(folder)
    else:
        os.environ |= {"CUPY_CACHE_IN_MEMORY": "1", "CUPY_CACHE_DIR": tempfile.gettempdir()}  # is there, stays empty


def next_step(error: Exception) -> str:
    """Return what to do about an error of CUDA."""
    return _NEXT.get(getattr(error, "status", 0), _ELSE)


def find_devices() -> list[CudaPlace]:
    """Return all devices.

    Raises
    ------
    UnavailableError
        When CUDA has none, with what it says.
    DriverError
        When it does not answer: this process has lost its context, for example.
    """
    runtime = load_cupy().cuda.runtime
    try:
        count = runtime.getDeviceCount()
        if count == 0:
            raise UnavailableError(Unavailable("CUDA has no device", INSTALL))
        return [_describe(index, runtime.getDeviceProperties(index)) for index in range(count)]
    except runtime.CUDARuntimeError as error:
        if error.status in _ABSENT:
            raise UnavailableError(Unavailable(f"CUDA has no device ({error})", INSTALL + _HIDDEN)) from None
        raise DriverError(f"CUDA does not list its devices: {error}; {next_step(error)}") from None


def _describe(index: int, properties: dict[str, Any]) -> CudaPlace:
    name = properties["name"]
    return CudaPlace(
        index=index,
        name=name.decode(errors="replace") if isinstance(name, bytes) else str(name),
        capability=(int(properties["major"]), int(properties["minor"])),
        memory=int(properties["totalGlobalMem"]),
        processors=int(properties["multiProcessorCount"]),
        pci=f"{properties['pciDomainID']:04x}:{properties['pciBusID']:02x}:{properties['pciDeviceID']:02x}",
    )
