"""The vectors of an AES-GCM text behind its whole groups: one by one, each lane with the power of its own place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from accel.ir import aead_ghash as ghash
from accel.ir.aead_code import Code, Value
from accel.ir.aead_gcm_end import finish, part_blocks
from accel.ir.aead_gcm_row import Row
from accel.ir.aead_ghash import Product
from accel.ir.aead_layout import POWERS_END


def byte_mask(code: Code, count: Value) -> Value:
    """Return an i64 with the lowest ``count`` (0 to 64) bits set."""
    missing = code.math("sub", "i64", 64, count)
    low = code.math("and", "i64", missing, 63)
    mask = code.math("lshr", "i64", -1, low)
    none = code.math("icmp eq", "i64", count, 0)
    return code.op(f"select i1 {none}, i64 0, i64 {mask}")


def crypt_masked(row: Row, stream: Value, source: Value, target: Value, pick: Value) -> Value:
    """Emit one vector of which ``pick`` (<64 x i1>) bytes exist; return its ciphertext, zeros elsewhere."""
    code, lanes = row.code, row.lanes
    given = code.call(
        "<64 x i8>", "llvm.masked.load.v64i8.p0", f"ptr {source}", "immarg i32 1", f"<64 x i1> {pick}",
        "<64 x i8> zeroinitializer",
    )  # fmt: skip
    crypted = code.xor("<64 x i8>", given, code.cast(stream, lanes.words, "<64 x i8>"))
    code.call(
        "void", "llvm.masked.store.v64i8.p0", f"<64 x i8> {crypted}", f"ptr {target}", "immarg i32 1",
        f"<64 x i1> {pick}",
    )  # fmt: skip
    if not row.variant.opening:
        given = code.op(f"select <64 x i1> {pick}, <64 x i8> {crypted}, <64 x i8> zeroinitializer")
    return code.cast(given, "<64 x i8>", lanes.words)


def crypt(row: Row, stream: Value, source: Value, target: Value, offset: int) -> Value:
    """Emit one whole vector; return its ciphertext."""
    code, kind = row.code, row.lanes.words
    given = code.load(kind, source, offset)
    crypted = code.xor(kind, given, stream)
    code.store(kind, crypted, target, offset)
    return row.pick(given, crypted)


class Pending(Protocol):
    """A group whose GHASH is still to be printed."""

    def vector(self, turn: int) -> None:
        """Emit the product of its next vector."""

    def end(self) -> Value:
        """Emit what is left; return the first input of the vectors behind."""


End = tuple[str, str, Value]
"""Label of a block that has filled the stream; prefix of the names of its values; the first input of GHASH."""


def fill(row: Row, name: str, counts: Sequence[int], begin_hash: Callable[[], Pending] | None) -> list[End]:
    """Emit the key stream for what is left of a text, to %stream, between its rounds the GHASH of a group.

    The first of ``counts`` that is enough is made; the last is enough for every rest, which is less than a group.
    Values ``%name.left``, ``%name.counters``, ``%name.first`` are given. Every way ends by going to block ``final``.
    """
    code, ends = row.code, []
    for count in counts[:-1]:
        enough = code.math("icmp ule", "i64", f"%{name}.left", count * row.lanes.size)
        code.branch(enough, f"{name}.fill{count}", f"{name}.above{count}")
        code.label(f"{name}.above{count}")
    code.goto(f"{name}.fill{counts[-1]}")
    for count in counts:
        code.label(f"{name}.fill{count}")
        hashed = begin_hash() if begin_hash else None
        counters = [row.ahead(f"%{name}.counters", j) for j in range(count)]
        streams = row.stream(counters, hashed.vector if hashed else lambda _: None)
        for j, stream in enumerate(streams):
            code.store(row.lanes.words, stream, "%stream", row.lanes.size * j, row.lanes.size)
        ends.append((f"{name}.fill{count}", name, hashed.end() if hashed else f"%{name}.first"))
        code.goto("final")
    return ends


def last_group(row: Row, ends: list[End]) -> None:
    """Emit the vectors that are left, one by one, each with descending powers of H."""
    code, lanes = row.code, row.lanes
    code.label("final")
    for what, kind in (("source", "ptr"), ("target", "ptr"), ("left", "i64")):
        code.phi(f"e.{what}", kind, [(f"%{name}.{what}", label) for label, name, _ in ends])
    first = code.phi("e.first", lanes.words, [(value, label) for label, _, value in ends])
    done = code.math("lshr", "i64", code.math("sub", "i64", "%left", "%e.left"), 4)
    blocks = code.math("lshr", "i64", code.math("add", "i64", "%n", 15), 4)
    # Weights: H^1 for the lengths, H^2 for the last block, and so on to the first lane of the first vector.
    exponent = code.math("add", "i64", code.math("sub", "i64", blocks, done), 2)
    back = code.math("mul", "i64", exponent, -16)
    powers = code.at("%record", code.math("add", "i64", back, POWERS_END))
    code.do(f"%powers = getelementptr i8, ptr {powers}, i64 {lanes.size}")
    start = ghash.multiply(code, lanes, first, code.load(lanes.words, powers, 0))
    code.branch(code.math("icmp uge", "i64", "%e.left", lanes.size), "single", "rest")
    pairs = [(what, "ptr", f"%e.{what}") for what in ("source", "target")] + [("left", "i64", "%e.left")]
    pairs += [("powers", "ptr", "%powers"), ("stream", "ptr", "%stream")]
    pairs += [(name, lanes.words, value) for name, value in zip(Product._fields, start, strict=True)]
    code.label("single")
    _single(row, *(code.phi(f"s.{n}", kind, [(v, "final"), (f"%s.{n}.next", "single")]) for n, kind, v in pairs))
    code.label("rest")
    for name, kind, value in pairs:
        code.phi(f"r.{name}", kind, [(value, "final"), (f"%s.{name}.next", "single")])
    total = Product(*(f"%r.{name}" for name in Product._fields))
    (_part_masked if lanes.count == 4 else part_blocks)(row, total)


def _single(row: Row, source: Value, target: Value, left: Value, powers: Value, stream: Value, *total: Value) -> None:
    """Emit a turn of the loop over whole vectors."""
    code, lanes = row.code, row.lanes
    key = code.load(lanes.words, stream, 0, lanes.size)
    vector = lanes.reverse(code, crypt(row, key, source, target, 0))
    product = ghash.multiply(code, lanes, vector, code.load(lanes.words, powers))
    for name, old, new in zip(Product._fields, total, product, strict=True):
        code.do(f"%s.{name}.next = xor {lanes.words} {old}, {new}")
    for name, pointer in (("source", source), ("target", target), ("powers", powers), ("stream", stream)):
        code.do(f"%s.{name}.next = getelementptr i8, ptr {pointer}, i64 {lanes.size}")
    code.do(f"%s.left.next = sub i64 {left}, {lanes.size}")
    code.branch(code.math("icmp uge", "i64", "%s.left.next", lanes.size), "single", "rest")


def _part_masked(row: Row, total: Product) -> None:
    """Emit the last vector of four lanes, which is not whole."""
    code, lanes = row.code, row.lanes
    code.branch(code.math("icmp ne", "i64", "%r.left", 0), "part", "tag")
    code.label("part")
    pick = code.cast(byte_mask(code, "%r.left"), "i64", "<64 x i1>")
    key = code.load(lanes.words, "%r.stream", 0, lanes.size)
    vector = lanes.reverse(code, crypt_masked(row, key, "%r.source", "%r.target", pick))
    product = ghash.multiply(code, lanes, vector, code.load(lanes.words, "%r.powers"))
    folded = ghash.fold(code, lanes, ghash.add(code, lanes, total, product))
    code.goto("finish")
    code.label("tag")
    whole = ghash.fold(code, lanes, total)
    code.goto("finish")
    code.label("finish")
    finish(row, folded, whole)
