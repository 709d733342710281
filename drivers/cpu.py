"""What this processor can do, by the names of /proc/cpuinfo (``avx2``, ``gfni``, ``vaes``, ``avx512bw`` ...).

The kernel lists a flag only when it also saves the registers that go with it, so the list answers both questions that
CPUID and XGETBV answer. ``VANTUN_CPU`` masks flags, so that a newer machine can try what an
older one would run.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

LEVELS: dict[str, frozenset[str]] = {
    "x86-64-v4": frozenset(
        [
            "avx",
            "avx2",
            "fma",
            "bmi1",
            "bmi2",
            "f16c",
            "movbe",
            "abm",
            "avx512f",
            "avx512bw",
            "avx512cd",
            "avx512dq",
            "avx512vl",
        ]
    ),
    "x86-64-v3": frozenset(["avx", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"]),
    "x86-64": frozenset(),
}
"""Flags of each level of the x86-64 psABI beyond v2, widest first (``abm`` stands for LZCNT)."""


@dataclass(frozen=True)
class Cpu:
    """One processor.

    Attributes
    ----------
    machine
        As ``uname -m`` says, e.g. ``"x86_64"``.
    model, microcode
        For people, and for fingerprints; empty when the kernel does not tell.
    flags
        What it can do, less what ``VANTUN_CPU`` masks.
    """

    machine: str
    model: str
    microcode: str
    flags: frozenset[str]

    @property
    def level(self) -> str:
        """The widest level of LEVELS that it has; the name of the machine elsewhere."""
        if self.machine != "x86_64":
            return self.machine
        return next(name for name, needs in LEVELS.items() if needs <= self.flags)


def read_cpu(sysroot: Path = ROOT, mask: str | None = None) -> Cpu:
    """Return the first processor of /proc/cpuinfo; a file that cannot be read is a processor without flags.

    ``mask`` (default: the environment's VANTUN_CPU) lists flags to hide, separated by commas; ``avx512`` hides every
    flag that begins so, and ``plain`` hides all.
    """
    facts: dict[str, str] = {}
    try:
        text = (sysroot / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        facts[name.strip()] = value.strip()
    flags = frozenset((facts.get("flags") or facts.get("Features") or "").split())
    hidden = [word.strip() for word in (os.environ.get("VANTUN_CPU", "") if mask is None else mask).split(",")]
    if "plain" in hidden:
        flags = frozenset()
    flags = frozenset(flag for flag in flags if not any(word and flag.startswith(word) for word in hidden))
    return Cpu(platform.machine(), facts.get("model name", ""), facts.get("microcode", ""), flags)
