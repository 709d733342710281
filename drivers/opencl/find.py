"""Which OpenCL devices there are.

Asking loads the vendors' libraries, which may abort the process: ask in a child process first (accel/child.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drivers.errors import DriverError, Unavailable, UnavailableError

INSTALL = "install a driver that registers an OpenCL ICD, and pyopencl: pip install 'vantun[opencl]'"


@dataclass(frozen=True)
class OpenclPlace:
    """One device.

    Attributes
    ----------
    platform, name, driver
        As they call themselves.
    emulator
        Whether it is a processor in disguise: by its type, for vendor ids lie (PoCL says Intel's).
    handle
        pyopencl's.
    """

    platform: str
    name: str
    driver: str
    emulator: bool
    handle: Any

    def __str__(self) -> str:
        return f"{self.name} ({self.platform}, driver {self.driver})"


def find_devices() -> list[OpenclPlace]:
    """Return all devices, in the order of their drivers; raises UnavailableError without pyopencl or any driver."""
    try:
        import pyopencl
    except ImportError as error:
        raise UnavailableError(Unavailable(f"pyopencl cannot be imported ({error})", INSTALL)) from None
    try:
        platforms = pyopencl.get_platforms()
    except pyopencl.Error as error:
        raise UnavailableError(Unavailable(f"no OpenCL driver answers ({error})", INSTALL)) from None
    places = []
    for platform in platforms:
        try:
            devices = platform.get_devices()
        except pyopencl.Error:  # a platform without devices answers with an error; others may have some
            continue
        for device in devices:
            emulator = bool(device.type & pyopencl.device_type.CPU)
            places.append(
                OpenclPlace(platform.name.strip(), device.name.strip(), device.driver_version, emulator, device)
            )
    return places


def _must_compile(place: OpenclPlace) -> None:
    """Raise UnavailableError where an emulator compiles nothing.

    PoCL asks its LLVM for the processor's name, and takes no program where that does not know it: PoCL 3.0 of pip has
    LLVM 14, for which a Zen 5 is ``generic``.
    """
    import pyopencl

    try:
        pyopencl.Program(pyopencl.Context([place.handle]), "__kernel void nothing(void) {}").build()
    except pyopencl.Error as error:
        lines = str(error).splitlines() or [type(error).__name__]
        said = next((line for line in lines if line.startswith("error: ")), lines[0])
        raise UnavailableError(
            Unavailable(f"{place} compiles nothing ({said})", "use a processor that its LLVM knows, or a newer PoCL")
        ) from None


def devices_of_kind(*, emulated: bool) -> list[OpenclPlace]:
    """Return the real devices, or the emulators, in a steady order; raises UnavailableError when there is none."""
    places = find_devices()
    wanted = [place for place in places if place.emulator == emulated]
    if wanted:
        if emulated:
            _must_compile(wanted[0])
        return wanted
    kind = "emulator (PoCL)" if emulated else "GPU or accelerator"
    found = f"; there are only: {', '.join(str(place) for place in places)}" if places else ""
    raise UnavailableError(Unavailable(f"OpenCL has no {kind}{found}", INSTALL))


def choose_device(index: int = 0, *, emulated: bool) -> OpenclPlace:
    """Return a real device, or an emulator, by its number.

    Raises
    ------
    UnavailableError
        When there is none of the kind.
    DriverError
        When there are, but not so many.
    """
    places = devices_of_kind(emulated=emulated)
    if not 0 <= index < len(places):
        found = ", ".join(f"{number} = {place}" for number, place in enumerate(places))
        raise DriverError(f"there is no OpenCL device {index}; there are: {found}")
    return places[index]
