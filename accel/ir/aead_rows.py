"""Jobs of packets: keys, nonces, header protection (RFC 9001, sections 5.3 and 5.4) around the functions of a suite.

Rows are done in parts of CHUNK. Sealing, masks come last and find the samples in the cache; opening, they come first:
the processor computes many rows' masks side by side, and no row waits for its own. Rows whose suite works in batches
(accel.ir.aead_batch) are collected meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accel.engine import HEADER_LENGTH, SHORTEST_OPEN, SHORTEST_SEAL, TAG_LENGTH, Status
from accel.ir import aead_batch
from accel.ir.aead_code import Code, Value
from accel.ir.aead_layout import IV, RECORD

CHUNK = aead_batch.ROWS
_SCRATCH = 64
_KEY, _HEADER, _NUMBER, _MASK, _VERDICT = 0, 16, 32, 40, 48
"""Where a row has: the record of its slot (null = it is rejected), the plain header, the packet number,
the mask, and 1 for a right tag."""
_COLUMNS = ("source", "source_offset", "length", "target", "target_offset", "slot", "number", "status")
_KINDS = {"source_offset": "i64", "length": "i32", "target_offset": "i64", "slot": "i32", "number": "i64"}
_HIDDEN = 0x1F
_BLOCK = "<2 x i64>"


@dataclass(frozen=True)
class Suites:
    """Names of the functions of one variant, by suite + 1 (as in a key record).

    Attributes
    ----------
    packets
        They have accel.ir.aead_stream.PARAMETERS.
    masks
        ``i64 (ptr record, <2 x i64> sample)``.
    batched
        For the one suite that is done in batches, instead: its number, and the functions of accel.ir.aead_batch that
        add a text, run texts, add a mask, run masks.
    """

    packets: Mapping[int, str]
    masks: Mapping[int, str]
    batched: tuple[int, str, str, str, str]
    attributes: str


class _Rows:
    """The body of a job function."""

    def __init__(self, suites: Suites, declared: set[str]) -> None:
        self.code = Code(declared)
        self.suites = suites

    def entry(self) -> None:
        """Emit what all rows need, and the loop over chunks up to the first loop over rows."""
        code = self.code
        code.label("entry")
        code.do(f"%scratch = alloca [{CHUNK * _SCRATCH} x i8], align 64")
        code.do(f"%batch = alloca [{aead_batch.BYTES} x i8], align 64")
        code.store("i64", "0", "%batch", aead_batch.COUNT, 64)
        code.store("i64", "0", "%batch", aead_batch.TOTAL, 8)
        code.do("%job = load ptr, ptr %context")
        code.do(f"%table = bitcast ptr {code.load('ptr', '%context', 8)} to ptr")
        code.do(f"%slots = add i64 {code.load('i64', '%context', 16)}, 0")
        for place, name in enumerate(_COLUMNS):
            code.do(f"%{name} = bitcast ptr {code.load('ptr', '%job', 16 * place)} to ptr")
        code.do(f"%count = add i64 {code.load('i64', '%job', 16 * len(_COLUMNS) - 8)}, 0")
        code.branch(code.math("icmp sgt", "i64", "%count", 0), "chunk", "done")
        code.label("chunk")
        code.phi("begin", "i64", [(0, "entry"), ("%end", "chunk.next")])
        after = code.math("add", "i64", "%begin", CHUNK)
        code.do(f"%end = call i64 @llvm.umin.i64(i64 {after}, i64 %count)")
        code.declared.add("declare i64 @llvm.umin.i64(i64, i64)")

    def leave(self) -> str:
        """Emit the end of the loop over chunks; return the function's body so far."""
        code = self.code
        code.label("chunk.next")
        code.branch(code.math("icmp ult", "i64", "%end", "%count"), "chunk", "done")
        code.label("done")
        code.do("ret i64 0")
        return "\n".join(code.lines)

    def begin_loop(self, name: str, before: str, after: str) -> Value:
        """Begin a loop over the rows of a chunk; return the row. Block ``name.next`` ends a turn."""
        code = self.code
        code.goto(name)
        code.label(f"{name}.next")
        code.do(f"%{name}.next.i = add i64 %{name}.i, 1")
        code.branch(code.math("icmp ult", "i64", f"%{name}.next.i", "%end"), name, after)
        code.label(name)
        return code.phi(f"{name}.i", "i64", [("%begin", before), (f"%{name}.next.i", f"{name}.next")])

    def cell(self, column: str, row: Value) -> Value:
        """Return the element of a column, as i64."""
        code, kind = self.code, _KINDS[column]
        value = code.op(f"load {kind}, ptr {self.place(column, row)}")
        return value if kind == "i64" else code.op(f"sext {kind} {value} to i64")

    def place(self, column: str, row: Value) -> Value:
        """Return the address of an element."""
        return self.code.op(f"getelementptr {_KINDS.get(column, 'i8')}, ptr %{column}, i64 {row}")

    def set_status(self, row: Value, status: Status) -> None:
        """Write a row's status."""
        self.code.store("i8", str(int(status)), self.place("status", row))

    def record(self, slot: Value, label: str, no_key: str) -> tuple[Value, Value]:
        """Emit the look-up of a slot's record, leaving for ``no_key`` without one; return it and its suite + 1."""
        code = self.code
        code.branch(code.math("icmp ult", "i64", slot, "%slots"), f"{label}.in", no_key)
        code.label(f"{label}.in")
        record = code.at("%table", code.math("mul", "i64", slot, RECORD))
        suite = code.load("i32", record, 0, 4)
        code.branch(code.math("icmp ne", "i32", suite, 0), label, no_key)
        code.label(label)
        return record, suite

    def nonce(self, record: Value, number: Value) -> Value:
        """Return the IV xor the packet number, which has its place in bytes 4 to 11."""
        code = self.code
        turned = code.call("i64", "llvm.bswap.i64", f"i64 {number}")
        low, high = code.math("shl", "i64", turned, 32), code.math("lshr", "i64", turned, 32)
        return code.xor(_BLOCK, code.load(_BLOCK, record, IV, 16), self.pair(low, high))

    def pair(self, low: Value, high: Value) -> Value:
        """Return a block of two i64."""
        one = self.code.op(f"insertelement {_BLOCK} poison, i64 {low}, i32 0")
        return self.code.op(f"insertelement {_BLOCK} {one}, i64 {high}, i32 1")

    def header(self, packet: Value) -> tuple[Value, Value]:
        """Return the 13 bytes of a header, then zeros, as two i64; 16 bytes can be read."""
        code = self.code
        high = code.math("and", "i64", code.load("i64", packet, 8), (1 << 40) - 1)
        return code.load("i64", packet), high

    def write_header(self, target: Value, low: Value, high: Value) -> None:
        """Write the 13 bytes of a header."""
        code = self.code
        code.store("i64", low, target)
        word = code.op(f"trunc i64 {high} to i32")
        code.store("i32", word, target, 8)
        last = code.op(f"trunc i64 {code.math('lshr', 'i64', high, 32)} to i8")
        code.store("i8", last, target, 12)

    def scratch(self, row: Value) -> Value:
        """Return the address of a row's scratch."""
        code = self.code
        return code.at("%scratch", code.math("mul", "i64", code.math("sub", "i64", row, "%begin"), _SCRATCH))

    def choose(self, label: str, suite: Value, names: Mapping[int, str], batched: str, call: tuple[str, Value]) -> None:
        """Emit a call of the suite's function; go on in block ``label``.

        ``call`` has the arguments, and the address that receives the i64 (later, when the suite works in batches).
        """
        code, (number, *_) = self.code, self.suites.batched
        cases = " ".join(f"i32 {each}, label %{label}.{each}" for each in names)
        code.do(f"switch i32 {suite}, label %{label}.batched [ {cases} ]")
        for each, name in names.items():
            assert each != number
            code.label(f"{label}.{each}")
            code.store("i64", code.op(f"call i64 @{name}({call[0]})"), call[1], 0, 8)
            code.goto(label)
        code.label(f"{label}.batched")
        code.do(f"call void @{batched}(ptr %batch, {call[0]}, ptr {call[1]})")
        code.goto(label)
        code.label(label)

    def find_mask(self, label: str, record: Value, suite: Value, packet: Value, row: Value) -> None:
        """Emit what puts a header's mask into the row's scratch; go on in block ``label``."""
        sample = self.code.load(_BLOCK, packet, HEADER_LENGTH)
        out = self.code.at(self.scratch(row), _MASK)
        call = (f"ptr {record}, {_BLOCK} {sample}", out)
        self.choose(label, suite, self.suites.masks, self.suites.batched[3], call)

    def mask(self, row: Value) -> tuple[Value, Value]:
        """Return what a header is to be xored with, as two i64."""
        code = self.code
        mask = code.load("i64", self.scratch(row), _MASK, 8)
        return code.math("and", "i64", mask, _HIDDEN), code.math("and", "i64", mask, 0xFFFFFFFF00)

    def run(self, what: int) -> None:
        """Emit the run of texts (2) or masks (4) that were collected."""
        self.code.do(f"call void @{self.suites.batched[what]}(ptr %batch)")

    def phase(self, first: Value) -> Value:
        """Return the key phase, from an i64 that begins with the first byte."""
        code = self.code
        return code.math("and", "i64", code.math("lshr", "i64", first, 2), 1)

    def zero(self, label: str, target: Value, size: Value, before: str) -> None:
        """Emit zeros over ``size`` bytes, none when negative; go on in block ``label``."""
        code = self.code
        code.branch(code.math("icmp sge", "i64", size, 16), f"{label}.block", f"{label}.rest")
        code.label(f"{label}.block")
        at = code.phi(f"{label}.b", "i64", [(0, before), (f"%{label}.more", f"{label}.block")])
        code.store(_BLOCK, "zeroinitializer", target, at)
        code.do(f"%{label}.more = add i64 {at}, 16")
        next_ = code.math("add", "i64", at, 32)
        code.branch(code.math("icmp sle", "i64", next_, size), f"{label}.block", f"{label}.rest")
        code.label(f"{label}.rest")
        begun = code.phi(f"{label}.begun", "i64", [(0, before), (f"%{label}.more", f"{label}.block")])
        code.branch(code.math("icmp slt", "i64", begun, size), f"{label}.byte", label)
        code.label(f"{label}.byte")
        at = code.phi(f"{label}.at", "i64", [(begun, f"{label}.rest"), (f"%{label}.next", f"{label}.byte")])
        code.store("i8", "0", target, at)
        code.do(f"%{label}.next = add i64 {at}, 1")
        code.branch(code.math("icmp slt", "i64", f"%{label}.next", size), f"{label}.byte", label)
        code.label(label)


def seal(name: str, suites: Suites, declared: set[str]) -> str:
    """Return the function that does a SealJob."""
    rows = _Rows(suites, declared)
    code = rows.code
    rows.entry()
    row = rows.begin_loop("row", "chunk", "texts")
    length = rows.cell("length", row)
    packet = code.at("%source", rows.cell("source_offset", row))
    target = code.at("%target", rows.cell("target_offset", row))
    code.branch(code.math("icmp sge", "i64", length, SHORTEST_SEAL), "long", "reject")
    code.label("long")
    low, high = rows.header(packet)
    slot = rows.cell("slot", row)
    rows.record(slot, "first", "reject")
    key, suite = rows.record(code.math("add", "i64", slot, rows.phase(low)), "keyed", "reject")
    rows.write_header(target, low, high)
    nonce = rows.nonce(key, rows.cell("number", row))
    size = code.math("sub", "i64", length, HEADER_LENGTH)
    arguments = _arguments(key, nonce, rows.pair(low, high), packet, size, target, code)
    result = code.at(rows.scratch(row), _VERDICT)
    rows.choose("sealed", suite, suites.packets, suites.batched[1], (arguments, result))
    rows.set_status(row, Status.DONE)
    code.goto("row.next")
    code.label("reject")
    rows.set_status(row, Status.REJECTED)
    rows.zero("zeroed", target, code.math("add", "i64", length, TAG_LENGTH), "reject")
    code.goto("row.next")
    code.label("texts")
    rows.run(2)
    _mask_rows(rows)
    return f"define i64 @{name}(ptr %context) {suites.attributes} {{\n{rows.leave()}\n}}"


def _arguments(key: Value, nonce: Value, first: Value, packet: Value, size: Value, target: Value, code: Code) -> str:
    text, out = code.at(packet, HEADER_LENGTH), code.at(target, HEADER_LENGTH)
    return f"ptr {key}, {_BLOCK} {nonce}, {_BLOCK} {first}, ptr {text}, i64 {size}, ptr {out}, i64 {8 * HEADER_LENGTH}"


def _mask_rows(rows: _Rows) -> None:
    """Emit the loops that protect the headers of a chunk's sealed packets."""
    code = rows.code
    row = rows.begin_loop("sample", "texts", "masks")
    _if_done(rows, row, "found", "sample.next")
    target = code.at("%target", rows.cell("target_offset", row))
    record = code.at("%table", code.math("mul", "i64", rows.cell("slot", row), RECORD))
    rows.find_mask("masked", record, code.load("i32", record, 0, 4), target, row)
    code.goto("sample.next")
    code.label("masks")
    rows.run(4)
    row = rows.begin_loop("mask", "masks", "chunk.next")
    _if_done(rows, row, "protect", "mask.next")
    target = code.at("%target", rows.cell("target_offset", row))
    low, high = rows.mask(row)
    first = code.load("i8", target)
    code.store("i8", code.xor("i8", first, code.op(f"trunc i64 {low} to i8")), target)
    number = code.op(f"trunc i64 {code.math('lshr', 'i64', high, 8)} to i32")
    code.store("i32", code.xor("i32", code.load("i32", target, 9), number), target, 9)
    code.goto("mask.next")


def _if_done(rows: _Rows, row: Value, label: str, otherwise: str) -> None:
    status = rows.code.load("i8", rows.place("status", row))
    rows.code.branch(rows.code.math("icmp eq", "i8", status, int(Status.DONE)), label, otherwise)
    rows.code.label(label)


def open_(name: str, suites: Suites, declared: set[str]) -> str:
    """Return the function that does an OpenJob."""
    rows = _Rows(suites, declared)
    code = rows.code
    rows.entry()
    _find_masks(rows)
    code.label("masks")
    rows.run(4)
    _open_texts(rows)
    code.label("texts")
    rows.run(2)
    row = rows.begin_loop("verdict", "texts", "chunk.next")
    scratch = rows.scratch(row)
    target = code.at("%target", rows.cell("target_offset", row))
    right = code.math("icmp ne", "i64", code.load("i64", scratch, _VERDICT, 8), 0)
    code.branch(right, "accept", "reject")
    code.label("accept")
    rows.write_header(target, code.load("i64", scratch, _HEADER, 8), code.load("i64", scratch, _HEADER + 8, 8))
    code.store("i64", code.load("i64", scratch, _NUMBER, 8), rows.place("number", row), 0, 8)
    rows.set_status(row, Status.DONE)
    code.goto("verdict.next")
    code.label("reject")
    rows.set_status(row, Status.REJECTED)
    rows.zero("zeroed", target, code.math("sub", "i64", rows.cell("length", row), TAG_LENGTH), "reject")
    code.goto("verdict.next")
    return f"define i64 @{name}(ptr %context) {suites.attributes} {{\n{rows.leave()}\n}}"


def _find_masks(rows: _Rows) -> None:
    """Emit the loop that finds the first record and the mask of a chunk's rows."""
    code = rows.code
    row = rows.begin_loop("head", "chunk", "masks")
    scratch = rows.scratch(row)
    code.store("ptr", "null", scratch, _KEY, 8)
    code.store("i64", "0", scratch, _VERDICT, 8)
    long_enough = code.math("icmp sge", "i64", rows.cell("length", row), SHORTEST_OPEN)
    code.branch(long_enough, "long", "head.next")
    code.label("long")
    record, suite = rows.record(rows.cell("slot", row), "first", "head.next")
    code.store("ptr", record, scratch, _KEY, 8)
    packet = code.at("%source", rows.cell("source_offset", row))
    rows.find_mask("masked", record, suite, packet, row)
    code.goto("head.next")


def _open_texts(rows: _Rows) -> None:
    """Emit the loop that finds out header, number and nonce of a chunk's rows, and opens them."""
    code = rows.code
    row = rows.begin_loop("row", "masks", "texts")
    scratch = rows.scratch(row)
    code.branch(code.math("icmp ne", "ptr", code.load("ptr", scratch, _KEY, 8), "null"), "known", "row.next")
    code.label("known")
    packet = code.at("%source", rows.cell("source_offset", row))
    low, high = (code.xor("i64", part, mask) for part, mask in zip(rows.header(packet), rows.mask(row), strict=True))
    slot = code.math("add", "i64", rows.cell("slot", row), rows.phase(low))
    key, suite = rows.record(slot, "keyed", "row.next")
    number = _full_number(code, high, rows.cell("number", row))
    header = rows.pair(low, high)
    code.store(_BLOCK, header, scratch, _HEADER, 16)
    code.store("i64", number, scratch, _NUMBER, 8)
    size = code.math("sub", "i64", rows.cell("length", row), HEADER_LENGTH + TAG_LENGTH)
    target = code.at("%target", rows.cell("target_offset", row))
    arguments = _arguments(key, rows.nonce(key, number), header, packet, size, target, code)
    result = code.at(scratch, _VERDICT)
    rows.choose("opened", suite, rows.suites.packets, rows.suites.batched[1], (arguments, result))
    code.goto("row.next")


def _full_number(code: Code, high: Value, largest: Value) -> Value:
    """Return the packet number (RFC 9000, appendix A.3), from the header's second half."""
    window = 1 << 32
    word = code.op(f"trunc i64 {code.math('lshr', 'i64', high, 8)} to i32")
    low = code.op(f"zext i32 {code.call('i32', 'llvm.bswap.i32', f'i32 {word}')} to i64")
    expected = code.math("add", "i64", largest, 1)
    full = code.math("or", "i64", code.math("and", "i64", expected, -window), low)
    behind = code.math("icmp sle", "i64", full, code.math("sub", "i64", expected, window // 2))
    room = code.math("icmp slt", "i64", full, (1 << 62) - window)
    ahead = code.math("icmp sgt", "i64", full, code.math("add", "i64", expected, window // 2))
    more = code.math("icmp sge", "i64", full, window)
    up = code.op(f"select i1 {code.math('and', 'i1', behind, room)}, i64 {window}, i64 0")
    down = code.op(f"select i1 {code.math('and', 'i1', ahead, more)}, i64 {-window}, i64 {up}")
    return code.math("add", "i64", full, down)
