"""Machine code of the kernels for a GPU that is not here: compiled by NVRTC, read by nvdisasm, counted by loops.

How often each instruction is executed follows from the shape of the code: what stands in a loop counts as often as the
loop turns, an ``if`` counts as taken, and where a column's case is looked up, each case counts once for all columns.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from drivers.errors import DriverError

ROOT = Path(__file__).resolve().parent.parent
REGISTERS, FRAME = 0x2F, 0x11
"""Attributes of .nv.info: EIATTR_REGCOUNT, EIATTR_FRAME_SIZE."""
_NUMERIC_INFO = 4
"""EIFMT_SVAL."""
_INSTRUCTION = 16
"""Bytes of an instruction, from Volta on."""
_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\d+\s+)?([A-Z][A-Z0-9_.]*)(.*)")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_TARGET = re.compile(r"\.L_x_\d+")
_TIME = 900


def compile_for(name: str, text: str, architecture: str) -> bytes:
    """Return the cubin; a child process compiles, for NVRTC and PoCL in one process crash (each brings an LLVM)."""
    line = [sys.executable, "-m", "benchmarks.nvrtc_child", name, architecture]
    done = subprocess.run(line, input=text.encode(), capture_output=True, cwd=ROOT, timeout=_TIME, check=False)
    if done.returncode:
        raise DriverError(f"{name} does not compile for {architecture}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def attributes(image: bytes, wanted: int) -> list[int]:
    """Return the values of an attribute of all kernels: the cubin is an ELF file with a section .nv.info."""
    return [value for kind, value in _numbers(_section(image, b".nv.info")) if kind == wanted]


def instructions(image: bytes, kernel: str) -> float:
    """Return how many instructions a kernel has."""
    return len(_section(image, f".text.{kernel}".encode())) / _INSTRUCTION


def _section(image: bytes, wanted: bytes) -> bytes:
    (table,) = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<IIQQQQ", image, table + size * index) for index in range(count)]
    for name, _, _, _, offset, length in headers:
        start = headers[names][4] + name
        if image[start : image.index(b"\0", start)] == wanted:
            return image[offset : offset + length]
    raise AssertionError(f"no section {wanted!r}")


def _numbers(info: bytes) -> Iterator[tuple[int, int]]:
    place = 0
    while place < len(info):
        form, kind, length = struct.unpack_from("<BBH", info, place)
        place += 4
        if form == _NUMERIC_INFO:
            if length == 8:
                yield kind, struct.unpack_from("<II", info, place)[1]
            place += length


# --- from machine code to blocks


def disassembler() -> Path | None:
    """Return nvdisasm, of the wheel nvidia-cuda-nvdisasm; None where that is not installed."""
    found = find_spec("nvidia")
    places = found.submodule_search_locations if found else None
    return next((file for place in places or () for file in Path(place).glob("*/bin/nvdisasm")), None)


def disassemble(image: bytes) -> str:
    """Return the text of a cubin. Raises DriverError without a disassembler."""
    tool = disassembler()
    if tool is None:
        raise DriverError("nvdisasm is not there: pip install nvidia-cuda-nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image)
        file.flush()
        return subprocess.run([tool, "-c", file.name], check=True, capture_output=True, text=True).stdout


@dataclass
class Block:
    """Instructions that are executed one behind the other.

    Attributes
    ----------
    codes
        Their names, with what follows a dot.
    label
        What branches call it; empty when none does.
    targets
        Labels that its last instruction branches to.
    falls
        Whether the next block may follow.
    """

    codes: list[str]
    label: str
    targets: tuple[str, ...] = ()
    falls: bool = True


def blocks_of(text: str, kernel: str) -> list[Block]:
    """Return the blocks of a kernel in a disassembly, in order."""
    lines = iter(text.splitlines())
    for line in lines:
        if line == f".text.{kernel}:":
            break
    blocks = [Block([], "")]
    for line in lines:
        if line.startswith((".text.", "//-")):
            break
        label = _LABEL.match(line)
        if label:
            blocks.append(Block([], label[1]))
            continue
        found = _LINE.search(line)
        if not found:
            continue
        blocks[-1].codes.append(found[3])
        name = found[3].partition(".")[0]
        if name in ("BRA", "BRX", "EXIT"):
            several = bool(found[2]) or bool(re.match(r"\s+!?U?P\d", found[4]))
            blocks[-1].targets = tuple(_TARGET.findall(found[4]))
            blocks[-1].falls = several and name != "BRX"
            blocks.append(Block([], ""))
    return [block for block in blocks if block.codes or block.label]


@dataclass(frozen=True)
class Loop:
    """Blocks that are repeated: the numbers of the first and the last."""

    first: int
    last: int


def loops_of(blocks: Sequence[Block]) -> list[Loop]:
    """Return the loops in the order of their beginnings; what pads a kernel, a jump to itself for ever, is none."""
    places = {block.label: number for number, block in enumerate(blocks) if block.label}
    ends: dict[int, int] = {}
    for number, block in enumerate(blocks):
        for target in block.targets:
            if places[target] <= number and (block.falls or target != block.label):
                ends[places[target]] = max(number, ends.get(places[target], 0))
    return [Loop(first, last) for first, last in sorted(ends.items())]


def executions(blocks: Sequence[Block], turns: Sequence[float]) -> list[float]:
    """Return how often each block is executed, where the loops turn as often as ``turns`` says, in their order."""
    loops = loops_of(blocks)
    if len(loops) != len(turns):
        raise ValueError(f"{len(loops)} loops are in the code, turns were given for {len(turns)}")
    leaves = _cases_behind(blocks)
    places = {block.label: number for number, block in enumerate(blocks) if block.label}
    flow = [0.0] * (len(blocks) + 1)
    flow[0] = 1.0
    for number, block in enumerate(blocks):
        after = [places[target] for target in block.targets if places[target] > number]
        after += [number + 1] if block.falls else []
        counted = [place for place in after if place < len(blocks) and leaves[place]]
        if len(counted) > 1 and len({leaves[place] for place in counted}) > 1:
            total = sum(len(leaves[place]) for place in counted)
            for place in counted:
                flow[place] += flow[number] * len(leaves[place]) / total
        elif block.falls:
            flow[number + 1] += flow[number]
        elif after:
            flow[after[0]] += flow[number]
    found = flow[: len(blocks)]
    for loop, often in zip(loops, turns, strict=True):
        for number in range(loop.first, loop.last + 1):
            found[number] *= often
    return found


def _cases_behind(blocks: Sequence[Block]) -> list[frozenset[int]]:
    """Return for each block which cases of a ``switch`` it leads to, by number; a case leads to itself.

    All jumps of a switch name the place behind it last; a case is a block that goes there and nowhere else.
    """
    places = {block.label: number for number, block in enumerate(blocks) if block.label}
    jumps = [number for number, block in enumerate(blocks) if block.codes and block.codes[-1].startswith("BRX")]
    found: list[frozenset[int]] = [frozenset()] * (len(blocks) + 1)
    if not jumps:
        return found
    behind = places[blocks[jumps[0]].targets[-1]]
    for number in reversed(range(behind)):
        block = blocks[number]
        after = {places[target] for target in block.targets} | ({number + 1} if block.falls else set())
        if after == {behind} and number > jumps[0]:
            found[number] = frozenset((number,))
        elif number not in after:
            ahead = [place for place in after if number < place < behind]
            found[number] = frozenset().union(*(found[place] for place in ahead))
    return found


def count(text: str, kernel: str, turns: Sequence[float]) -> Counter[str]:
    """Return how often each instruction is executed by an item, by name up to the first dot.

    Those that a GPU does differently by what follows the dot keep it: IMAD.WIDE, LDG.128.
    """
    blocks = blocks_of(text, kernel)
    counts: Counter[str] = Counter()
    for block, often in zip(blocks, executions(blocks, turns), strict=True):
        for code in block.codes:
            counts[_short(code)] += often  # type: ignore[assignment]
    return counts


def _short(code: str) -> str:
    name, _, rest = code.partition(".")
    kept = [part for part in ("WIDE", "HI", "128") if part in rest.split(".")]
    return ".".join((name, *kept))
