"""What a GPU that is not here should do with our kernels: ``./dev bench gpu_expected``. Nothing of it is measured.

Kernels are compiled for sm_90, disassembled, and their executed instructions counted for a byte of data
(benchmarks/gpu_code.py). A card's published clock, multiprocessors and memory say how many of each kind it can do. The
result is a bound that this code cannot beat: it knows neither latency nor caches nor how long instructions are fetched.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from accel.device.compiled_code1 import compiled_text
from accel.device.program import AEAD, FEC, program
from accel.device.strips import common_shapes
from accel.engine import Suite
from benchmarks.gpu_code import REGISTERS, attributes, compile_for, count, disassemble
from benchmarks.gpu_rates import Rates
from benchmarks.gpu_report import share_of
from benchmarks.gpu_work import ENCODE, PACKET, UNIT, WORKS, Work
from drivers.errors import DriverError

ARCHITECTURE = "sm_90"
_SPANS, _PACKETS = 4096, 65_536
"""Of a launch: an item finds its own by halving."""
_COPIES = 0.9
"""Share of the published bandwidth that copies reach."""
_FILE = 65_536
_BLOCK = 128
"""Registers of a multiprocessor, and threads of a block."""
_ALU, _FMA, _LOADS, _ISSUE = 64, 64, 32, 128
"""Threads' instructions that a multiprocessor of sm_90 does in a clock, by kind, and of all kinds together."""
_OTHER = ("BRA", "BRX", "BSSY", "BSYNC", "EXIT", "S2R", "LDC", "NOP", "CS2R", "WARPSYNC", "I2F", "F2I", "MUFU")


@dataclass(frozen=True)
class Card:
    """A card as its maker publishes it: multiprocessors, Hz (boost), bytes per second of memory."""

    name: str
    multiprocessors: int
    clock: float
    memory: float

    @property
    def rates(self) -> Rates:
        """What benchmarks/gpu.py would measure of it at best."""
        return Rates(_COPIES * self.memory, 0.0, 0.0, self.multiprocessors * _ALU * self.clock)


CARDS = (Card("H100 SXM", 132, 1.98e9, 3.35e12), Card("H200 SXM", 132, 1.98e9, 4.8e12))


@dataclass(frozen=True)
class Part:
    """A kernel's part in a piece of work.

    Attributes
    ----------
    kernel, text
        Its name and program.
    turns
        Of its loops, in the order of the code.
    items
        Of a row: a span, or a packet.
    """

    kernel: str
    text: str
    turns: tuple[float, ...]
    items: float


@dataclass(frozen=True)
class Cost:
    """What a byte of data takes: instructions by kind, clocks of a multiprocessor, bytes read and written.

    Attributes
    ----------
    registers
        Of a thread, the most of its kernels; ``warps`` fit a multiprocessor.
    """

    alu: float
    fma: float
    every: float
    clocks: float
    traffic: float
    registers: int
    warps: int


def parts_of(work: Work) -> list[Part]:
    """Return the kernels of a piece of work."""
    if not work.is_fec:
        return _of_suite(work.suite)
    k, m = work.shape
    halvings = math.log2(_SPANS)
    if work.operation is ENCODE:
        shape = next(shape for shape in common_shapes() if m <= shape.m and k <= shape.columns)
        return [
            Part(kernel.name, compiled_text(kernel._replace(columns=k)), (halvings, k), math.ceil(UNIT / 32))
            for kernel in shape.kernels
        ]
    text = program(FEC)
    return [  # NVRTC unrolls both loops over losses, sixteen and four times
        Part("code1_coefficients", text, (halvings, m // 16, m % 16 // 4, m % 4, m // 4, m % 4), k * m),
        Part("code1_combine", text, (halvings, k), UNIT / 16 * math.ceil(m / 4)),
    ]


def _of_suite(suite: Suite) -> list[Part]:
    """Return the kernels that seal, with the suite compiled in, without what short packets and last blocks need."""
    number = {Suite.AES_128_GCM: 1, Suite.CHACHA20_POLY1305: 3}[suite]
    text = program(AEAD).replace("key[KEY_SUITE]", str(number))
    text = text.replace("if (size >= 16) return;", "return;")
    halvings, blocks = math.log2(_PACKETS), math.ceil(PACKET / 16)
    if suite is Suite.AES_128_GCM:
        chunks = math.ceil((PACKET + 16) / 128)
        return [
            Part("seal_heads", text, (), 1),
            Part("seal_chunks", text, (halvings, 10, blocks / chunks), chunks),
            Part("seal_tags", text, (chunks + 2, 10), 1),
        ]
    chunks = math.ceil(PACKET / 128)
    return [
        Part("seal_heads", text, (10,), 1),
        Part("seal_chunks", text, (halvings, 2, 10, blocks / chunks), chunks),
        Part("seal_tags", text, (PACKET // 128, math.ceil(PACKET % 128 / 16), 10), 1),
    ]


def traffic_of(work: Work) -> float:
    """Return the bytes read and written for a byte of data."""
    if not work.is_fec:
        return 2.0
    k, m = work.shape
    reads = len(parts_of(work)) if work.operation is ENCODE else math.ceil(m / 4)
    return (reads * k + m) / k


@cache
def _compiled(text: str) -> tuple[str, int]:
    image = compile_for("expected", text, ARCHITECTURE)
    return disassemble(image), max(attributes(image, REGISTERS))


def cost_of(work: Work) -> Cost:
    """Return what a byte of ``work`` takes. Raises DriverError where NVRTC or nvdisasm is not there."""
    counts: Counter[str] = Counter()
    most = 0
    for part in parts_of(work):
        disassembly, registers = _compiled(part.text)
        most = max(most, registers)
        for name, often in count(disassembly, part.kernel, part.turns).items():
            counts[name] += often * part.items / work.row_bytes  # type: ignore[assignment]
    alu, fma, loads = (sum(_weight(name, kind) * often for name, often in counts.items()) for kind in _KINDS)
    every = sum(counts.values())
    clocks = max(alu / _ALU, fma / _FMA, loads / _LOADS, every / _ISSUE)
    warps = _FILE // (-(-most // 8) * 8 * _BLOCK) * _BLOCK // 32
    return Cost(alu, fma, every, clocks, traffic_of(work), most, min(warps, 64))


_KINDS = ("alu", "fma", "loads")


def _weight(name: str, kind: str) -> float:
    """Return how many slots of a kind an instruction takes: wide products two, loads of 16 bytes a thread four."""
    head, _, rest = name.partition(".")
    if head.startswith(("LDG", "STG", "LD", "ST", "ATOM")) and head != "LDC":
        return (4.0 if rest == "128" else 1.0) if kind == "loads" else 0.0
    if head.startswith(("IMAD", "FFMA", "FMUL", "FADD")):
        return (2.0 if rest else 1.0) if kind == "fma" else 0.0
    if head in _OTHER or head.startswith("U"):  # of their own, or the whole warp's
        return 0.0
    return 1.0 if kind == "alu" else 0.0


@dataclass(frozen=True)
class Expected:
    """Bytes of data per second, all of them bounds: by instructions, by memory; and the roofline that targets go by."""

    work: str
    card: str
    logic: float
    memory: float
    roofline: float
    target: float

    @property
    def rate(self) -> float:
        """The lower bound of the two."""
        return min(self.logic, self.memory)

    @property
    def share(self) -> float:
        """Of the roofline."""
        return self.rate / self.roofline


def expected_of(work: Work, cost: Cost, card: Card) -> Expected:
    """Return what a card should do with ``work``, at most."""
    rates = card.rates
    logic = card.multiprocessors * card.clock / cost.clocks
    roofline = work.roofline(rates, permute=True).least
    return Expected(work.name, card.name, logic, rates.memory / cost.traffic, roofline, share_of(work))


def markdown(costs: dict[str, Cost], found: Sequence[Expected]) -> str:
    """Return both tables."""
    lines = [
        f"Expected, not measured on silicon: counted in the code for {ARCHITECTURE}.",
        "",
        "| work | instructions for a byte: ALU | multiplier | all | registers | warps |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {cost.alu:.2f} | {cost.fma:.2f} | {cost.every:.2f} | {cost.registers} | {cost.warps} of 64 |"
            for name, cost in costs.items()
        ),
        "",
        "| work | card | by instructions, GB/s | by memory | roofline | at most, of it | demanded |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {each.work} | {each.card} | {each.logic / 1e9:.0f} | {each.memory / 1e9:.0f} "
            f"| {each.roofline / 1e9:.0f} | {each.share:.0%} | {each.target:.0%} |"
            for each in found
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, and write where it is told; return 1 where a tool is missing."""
    parser = argparse.ArgumentParser(prog="./dev bench gpu_expected", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here; '-' = print it")
    options = parser.parse_args(arguments)
    try:
        costs = {work.name: cost_of(work) for work in WORKS}
    except DriverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = [expected_of(work, costs[work.name], card) for work in WORKS for card in CARDS]
    print(markdown(costs, found))
    if options.json:
        document = {
            "what": "expected of kernels by their code; nothing was measured",
            "costs": {name: asdict(cost) for name, cost in costs.items()},
            "cards": [asdict(card) for card in CARDS],
            "expected": [{**asdict(each), "rate": each.rate, "share": each.share} for each in found],
        }
        text = json.dumps(document, indent=2)
        if str(options.json) == "-":
            print(text)
        else:
            options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
