"""ChaCha20 of many rows together: rows are collected, and their blocks fill the lanes of vectors without gaps.

A batch is memory of a job function: how many rows and blocks there are, an entry for each row, the key stream. An
entry: the first state of ChaCha20, then which block of the batch is the row's first, the text, and where the verdict
(or the mask) is to be written.
"""

from __future__ import annotations

from accel.ir.aead_chacha import BLOCK, SIGMA, wipe_state
from accel.ir.aead_code import Code, Value, constant
from accel.ir.aead_layout import HEADER_KEY, KEY
from accel.ir.aead_stream import PARAMETERS

ROWS = 16
"""Rows that a batch holds."""
BLOCKS = 384
"""Blocks of key stream that it holds; a longer row is done alone."""
ENTRY = 128
BASE, SOURCE, TARGET, SIZE, FIRST, RESULT, BITS = 64, 72, 80, 88, 96, 112, 120
COUNT, TOTAL, ENTRIES = 0, 8, 64
STREAM = ENTRIES + (ROWS + 1) * ENTRY
BYTES = STREAM + BLOCK * (BLOCKS + 32)
"""Bytes of a batch. Up to 32 blocks are written together, and the last of them may be too many."""


def _entry(code: Code, number: Value) -> Value:
    return code.at("%batch", code.math("add", "i64", code.math("mul", "i64", number, ENTRY), ENTRIES))


def _write_state(code: Code, entry: Value, keys: Value, last: Value) -> None:
    """Write the state of a row; ``last`` has counter and nonce, as <4 x i32>."""
    code.store("<4 x i32>", constant("i32", SIGMA), entry, 0, 16)
    for half in range(2):
        code.store("<4 x i32>", code.load("<4 x i32>", keys, 16 * half, 16), entry, 16 + 16 * half, 16)
    code.store("<4 x i32>", last, entry, 48, 16)


def add(name: str, run: str, alone: str, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr batch, ..., ptr result)`` with PARAMETERS between, which collects a text.

    ``run`` is called before when there is no room, ``alone`` instead when there can be none.
    """
    code = Code(declared)
    code.label("entry")
    code.do(f"%blocks = add i64 {code.math('lshr', 'i64', code.math('add', 'i64', '%n', BLOCK - 1), 6)}, 1")
    code.branch(code.math("icmp ugt", "i64", "%blocks", BLOCKS), "alone", "fits")
    code.label("alone")
    code.store("i64", code.op(f"call i64 @{alone}({PARAMETERS})"), "%result")
    code.do("ret void")
    code.label("fits")
    full = code.math("add", "i64", code.load("i64", "%batch", TOTAL), "%blocks")
    code.branch(code.math("icmp ugt", "i64", full, BLOCKS), "full", "room")
    code.label("full")
    code.do(f"call void @{run}(ptr %batch)")
    code.goto("room")
    code.label("room")
    count, total = code.load("i64", "%batch", COUNT), code.load("i64", "%batch", TOTAL)
    entry = _entry(code, count)
    nonce = code.shuffle("<4 x i32>", code.cast("%nonce", "<2 x i64>", "<4 x i32>"), [3, 0, 1, 2])
    _write_state(code, entry, code.at("%record", KEY), nonce)
    for place, kind, value in (
        (BASE, "i64", total), (SOURCE, "ptr", "%source"), (TARGET, "ptr", "%target"), (SIZE, "i64", "%n"),
        (FIRST, "<2 x i64>", "%first"), (RESULT, "ptr", "%result"), (BITS, "i64", "%aad_bits"),
    ):  # fmt: skip
        code.store(kind, value, entry, place, 8)
    code.store("i64", code.math("add", "i64", count, 1), "%batch", COUNT)
    code.store("i64", code.math("add", "i64", total, "%blocks"), "%batch", TOTAL)
    code.do("ret void")
    return code.function(f"internal void @{name}(ptr %batch, {PARAMETERS}, ptr %result)", attributes)


def add_mask(name: str, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr batch, ptr record, <2 x i64> sample, ptr result)``, which collects a block for a mask.

    RFC 9001, section 5.4.4: the sample is counter and nonce.
    """
    code = Code(declared)
    code.label("entry")
    count = code.load("i64", "%batch", COUNT)
    entry = _entry(code, count)
    _write_state(code, entry, code.at("%record", HEADER_KEY), code.cast("%sample", "<2 x i64>", "<4 x i32>"))
    code.store("i64", count, entry, BASE, 8)
    code.store("ptr", "%result", entry, RESULT, 8)
    after = code.math("add", "i64", count, 1)
    code.store("i64", after, "%batch", COUNT)
    code.store("i64", after, "%batch", TOTAL)
    code.do("ret void")
    head = f"internal void @{name}(ptr %batch, ptr %record, <2 x i64> %sample, ptr %result)"
    return code.function(head, attributes)


def _begin_run(code: Code, stream: str) -> tuple[Value, Value]:
    """Emit the key stream of a batch, and the begin of a loop over its entries; return an entry and its stream."""
    code.label("entry")
    code.do(f"%count = add i64 {code.load('i64', '%batch', COUNT)}, 0")
    code.branch(code.math("icmp eq", "i64", "%count", 0), "done", "some")
    code.label("some")
    total = code.load("i64", "%batch", TOTAL)
    code.store("i64", total, _entry(code, "%count"), BASE, 8)
    entries, blocks = code.at("%batch", ENTRIES), code.at("%batch", STREAM)
    code.do(f"call void @{stream}(ptr {entries}, i64 {total}, ptr {blocks})")
    code.goto("row")
    code.label("row")
    number = code.phi("number", "i64", [(0, "some"), ("%number.next", "next")])
    entry = _entry(code, number)
    place = code.math("shl", "i64", code.load("i64", entry, BASE, 8), 6)
    return entry, code.at(blocks, place)


def _end_run(code: Code) -> None:
    code.label("next")
    # The state has the key. (Of a text the one-time key stays in the stream, which the next job overwrites.)
    wipe_state(code, _entry(code, "%number"))
    code.do("%number.next = add i64 %number, 1")
    code.branch(code.math("icmp ult", "i64", "%number.next", "%count"), "row", "empty")
    code.label("empty")
    code.store("i64", "0", "%batch", COUNT)
    code.store("i64", "0", "%batch", TOTAL)
    code.goto("done")
    code.label("done")
    code.do("ret void")


def run_masks(name: str, stream: str, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr batch)``, which writes the first 8 bytes of each mask."""
    code = Code(declared)
    entry, block = _begin_run(code, stream)
    code.store("i64", code.load("i64", block, 0, 8), code.load("ptr", entry, RESULT, 8))
    code.goto("next")
    _end_run(code)
    return code.function(f"internal void @{name}(ptr %batch)", attributes)


def run(name: str, isa: str, attributes: str, declared: set[str], *, opening: bool) -> str:
    """Return ``void name(ptr batch)``, which seals or opens what was collected, and writes the verdicts (i64)."""
    code = Code(declared)
    entry, one_time = _begin_run(code, f"stream_rows_{isa}")
    source, target, result = (code.load("ptr", entry, place, 8) for place in (SOURCE, TARGET, RESULT))
    size, bits = (code.load("i64", entry, place, 8) for place in (SIZE, BITS))
    first = code.load("<2 x i64>", entry, FIRST, 16)
    text = source if opening else target
    arguments = f"ptr null, ptr {one_time}, <2 x i64> {first}, ptr {text}, i64 {size}, i64 {bits}"
    authenticate = f"call <2 x i64> @poly1305_{isa}({arguments})"
    stream = code.at(one_time, BLOCK)
    apply = f"call void @xor_{isa}(ptr {source}, ptr {stream}, i64 {size}, ptr {target})"
    if opening:
        wrong = code.xor("<2 x i64>", code.op(authenticate), code.load("<2 x i64>", source, size))
        low, high = (code.op(f"extractelement <2 x i64> {wrong}, i32 {half}") for half in range(2))
        right = code.math("icmp eq", "i64", code.math("or", "i64", low, high), 0)
        code.store("i64", code.op(f"zext i1 {right} to i64"), result, 0, 8)
        code.branch(right, "right", "next")
        code.label("right")
        code.do(apply)
    else:
        code.do(apply)
        code.store("<2 x i64>", code.op(authenticate), target, size)
        code.store("i64", "1", result, 0, 8)
    code.goto("next")
    _end_run(code)
    return code.function(f"internal void @{name}(ptr %batch)", attributes)
