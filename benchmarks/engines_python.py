"""What a Python user has today for erasure coding: pyeclib with ISA-L, and zfec; one call per block, as they are made.

Both are optional: ``pip install 'vantun[bench]'``.
"""

from __future__ import annotations

from typing import Any

from accel.engine import SpanJob
from benchmarks.engines_field import Pass, WrongError

PYECLIB = ("isa_l_rs_vand", "isa_l_rs_cauchy", "isa_l_rs_vand_inv")
"""Its codes that ISA-L computes; the fastest counts."""
_INSTALL = "it is not installed; pip install 'vantun[bench]'"


def _import(name: str) -> Any:
    try:
        return __import__(name, fromlist=["*"])
    except ImportError as error:
        raise ImportError(f"{name.split('.', maxsplit=1)[0]}: {_INSTALL} ({error})") from None


def _blocks(job: SpanJob) -> list[list[bytes]]:
    """Return the data units of every span."""
    size, k = int(job.length[0]), int(job.k[0])
    units = [job.memory[place : place + size].tobytes() for place in job.data.tolist()]
    return [units[start : start + k] for start in range(0, len(units), k)]


def _lost(job: SpanJob) -> list[set[int]]:
    m = int(job.m[0])
    lost = job.lost.tolist()
    return [set(lost[start : start + m]) for start in range(0, len(lost), m)]


def pyeclib(job: SpanJob, what: str, kind: str) -> Pass:
    """Return the way of pyeclib to encode or decode all spans; the units of a span are one string of bytes."""
    interface = _import("pyeclib.ec_iface")
    try:
        driver = interface.ECDriver(k=int(job.k[0]), m=int(job.m[0]), ec_type=kind)
    except interface.ECDriverError as error:
        raise ValueError(f"pyeclib has no {kind}: {error}") from None
    whole = [b"".join(block) for block in _blocks(job)]
    encode, decode = driver.encode, driver.decode
    if what == "encode":
        return lambda: [encode(each) for each in whole]
    arrived = [
        [fragment for place, fragment in enumerate(encode(each)) if place not in lost]
        for each, lost in zip(whole, _lost(job), strict=True)
    ]

    def run() -> list[bytes]:
        return [decode(each) for each in arrived]

    if run() != whole:
        raise WrongError(f"pyeclib's {kind} gave other bytes back")
    return run


def zfec(job: SpanJob, what: str) -> Pass:
    """Return the way of zfec to encode or decode all spans."""
    library = _import("zfec")
    k, m = int(job.k[0]), int(job.m[0])
    blocks, parities = _blocks(job), list(range(k, k + m))
    encode = library.Encoder(k, k + m).encode
    if what == "encode":
        return lambda: [encode(block, parities) for block in blocks]
    decode = library.Decoder(k, k + m).decode
    arrived = []
    for block, lost in zip(blocks, _lost(job), strict=True):
        parity = iter(enumerate(encode(block, parities), k))
        # zfec wants a unit that arrived in its own place, and parity units in the places of the lost ones.
        chosen = [next(parity) if place in lost else (place, unit) for place, unit in enumerate(block)]
        arrived.append(([unit for _, unit in chosen], [place for place, _ in chosen]))

    def run() -> list[Any]:
        return [decode(units, places) for units, places in arrived]

    if [list(map(bytes, each)) for each in run()] != blocks:
        raise WrongError("zfec gave other bytes back")
    return run


def version() -> dict[str, str]:
    """Return which are installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    found = {}
    for name in ("pyeclib", "zfec"):
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
