"""Which processor figures are of, as a part of a file's name: an "AMD EPYC" may be of any of five generations.

Sources: Linux, arch/x86/kernel/cpu/amd.c (``bsp_init_amd``), arch/x86/include/asm/intel-family.h, and
Documentation/arch/arm64/cpu-feature-registers.rst with the parts' numbers of their technical reference manuals.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_AMD: dict[int, tuple[tuple[str, tuple[tuple[int, int], ...]], ...]] = {
    0x17: (
        ("zen1", ((0x00, 0x2F), (0x50, 0x5F))),
        ("zen2", ((0x30, 0x4F), (0x60, 0x7F), (0x90, 0x91), (0xA0, 0xAF))),
    ),
    0x19: (("zen3", ((0x00, 0x0F), (0x20, 0x5F))), ("zen4", ((0x10, 0x1F), (0x60, 0xAF)))),
    0x1A: (("zen5", ((0x00, 0x4F), (0x60, 0x7F))), ("zen6", ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF)))),
}
"""By family, ranges of models; the last number is one of them."""
_INTEL = {
    0x3F: "haswell",
    0x4F: "broadwell",
    0x6A: "ice-lake",
    0x6C: "ice-lake",
    0x8F: "sapphire-rapids",
    0xA7: "rocket-lake",
    0xAD: "granite-rapids",
    0xAE: "granite-rapids",
    0xAF: "sierra-forest",
    0xCF: "emerald-rapids",
}
"""Models of family 6 that servers have, and those that hypervisors name instead."""
_WITH_AMX = ("sapphire-rapids", "emerald-rapids", "granite-rapids")
_SKYLAKE = 0x55
_ARM = {0xD0C: "neoverse-n1", 0xD40: "neoverse-v1", 0xD49: "neoverse-n2", 0xD4F: "neoverse-v2", 0xD83: "neoverse-v3"}
_ARM_LTD = 0x41


class Processor(NamedTuple):
    """What the kernel says of the first processor; numbers that it does not say are -1.

    Attributes
    ----------
    vendor
        ``amd``, ``intel``, ``arm``, or as the processor has it.
    amx
        Whether it multiplies matrices, which among Intel's only Xeons since Sapphire Rapids do. Hypervisors tell other
        models: one with AMX was seen as a Rocket Lake.
    """

    vendor: str
    family: int
    model: int
    stepping: int
    amx: bool = False

    @property
    def name(self) -> str:
        """For a file's name: vendor and generation, or the numbers where that is not known, e.g. ``amd-zen5``."""
        known = _generation(self)
        return f"{self.vendor}-{known}" if known else f"{self.vendor}-f{self.family}m{self.model}s{self.stepping}"


def parse(cpuinfo: str) -> Processor:
    """Return the processor that a text of /proc/cpuinfo begins with."""
    vendor = _field(cpuinfo, "vendor_id")
    if not vendor and _number(cpuinfo, "CPU implementer") == _ARM_LTD:
        numbers = [_number(cpuinfo, name) for name in ("CPU architecture", "CPU part", "CPU revision")]
        return Processor("arm", numbers[0], numbers[1], numbers[2])
    plain = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(vendor)
    words = re.findall("[a-z0-9]+", vendor.lower())
    numbers = [_number(cpuinfo, name) for name in ("cpu family", "model", "stepping")]
    amx = "amx_tile" in _field(cpuinfo, "flags").split()
    return Processor(plain or "-".join(words) or "cpu", numbers[0], numbers[1], numbers[2], amx)


def _generation(found: Processor) -> str:
    if found.vendor == "amd":
        for name, ranges in _AMD.get(found.family, ()):
            if any(first <= found.model <= last for first, last in ranges):
                return name
    elif found.vendor == "intel" and found.family == 6:
        if found.model == _SKYLAKE:  # one model, told apart by steppings
            return "skylake" if found.stepping < 5 else "cascade-lake" if found.stepping < 10 else "cooper-lake"
        known = _INTEL.get(found.model, "")
        return "xeon-amx" if found.amx and known not in _WITH_AMX else known
    elif found.vendor == "arm":
        return _ARM.get(found.model, "")
    return ""


def _field(cpuinfo: str, name: str) -> str:
    found = re.search(rf"^{name}\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def _number(cpuinfo: str, name: str) -> int:
    try:
        return int(_field(cpuinfo, name), 0)
    except ValueError:
        return -1
