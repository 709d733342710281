"""The text of the kernels, as one translation unit."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

FEC = "fec_program.h"
HORNER = "horner.h"
AEAD = "aead_program.h"
KERNELS = {
    FEC: ("code1_coefficients", "code1_combine"),
    HORNER: ("code1_bits", "code1_horner"),
    AEAD: ("seal_heads", "seal_chunks", "seal_tags", "open_heads", "open_chunks", "open_tags"),
}
"""Names of the kernels of each program; HORNER's do what FEC's do."""
_INCLUDE = re.compile(r'^#include "([a-z0-9_]+\.h)"\n', re.MULTILINE)


@cache
def program(name: str) -> str:
    """Return the source of a program, FEC, HORNER or AEAD, with everything that it includes, each file once."""
    return _flatten(name, set())


def _flatten(name: str, seen: set[str]) -> str:
    if name in seen:
        return ""
    seen.add(name)
    text = files(__package__).joinpath(name).read_text(encoding="ascii")
    return _INCLUDE.sub(lambda match: _flatten(match[1], seen), text)
