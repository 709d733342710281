"""The energy that a GPU has taken, by NVML (nvidia-ml-py): of the whole card, idle power included."""

from __future__ import annotations

from benchmarks.gpu_work import Meter
from drivers.cuda.find import CudaPlace


def no_meter() -> float | None:
    """Say nothing."""
    return None


def meter_of(place: CudaPlace | None) -> tuple[Meter, str]:
    """Return a meter of joules for a CUDA device, and why there is none, in words; empty when there is one."""
    if place is None:
        return no_meter, "NVML knows NVIDIA GPUs under CUDA only"
    try:
        import pynvml
    except ImportError as error:
        return no_meter, f"NVML: {error}; pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(f"{place.pci}.0".encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return no_meter, f"NVML gives no energy of {place}: {error}"

    def joules() -> float | None:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError:
            return None

    return joules, ""
