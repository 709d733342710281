"""AES-GCM of one packet's payload (NIST SP 800-38D), for vectors of 1, 2 or 4 blocks.

The counter of vector 0 begins at 1, so its first lane is the mask of the tag, where GHASH has its first block: the
associated data. Both streams then run in step over the payload. ``GROUP`` vectors share a reduction: in a whole group
every lane is multiplied by the same power, H^(lanes x vectors to its end), and the lanes stay apart. In the last group
each lane has the power of its own place, and the lanes are summed.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.ir import aead_ghash as ghash
from accel.ir.aead_code import ONE, Code, Lanes, Value, constant
from accel.ir.aead_gcm_end import finish, part_blocks
from accel.ir.aead_gcm_row import Row, Variant
from accel.ir.aead_ghash import Product
from accel.ir.aead_layout import KEY, POWERS_END
from accel.ir.aead_stream import PARAMETERS

GROUP = 8
"""Vectors per reduction."""


def function(variant: Variant, declared: set[str]) -> str:
    """Return ``i64 name(PARAMETERS)``: 1, or 0 when the tag is wrong."""
    row = Row(Code(declared), variant, variant.lanes)
    code = row.code
    code.label("entry")
    if variant.narrow:
        short = code.math("icmp ult", "i64", "%n", 2 * row.lanes.size)
        code.branch(short, "short", "wide")
        code.label("short")
        code.do(f"%narrow = tail call i64 @{variant.narrow}({PARAMETERS})")
        code.do("ret i64 %narrow")
        code.label("wide")
    row.keys = [row.lanes.load_spread(code, "%record", KEY + 16 * i) for i in range(variant.rounds + 1)]
    _start(row)
    _groups(row)
    _last_group(row)
    return code.function(f"internal i64 @{variant.name}({PARAMETERS})", variant.attributes)


def _start(row: Row) -> None:
    """Emit vector 0; afterwards %begun is its GHASH input, %mask the tag's, %from, %to, %left the rest of the text."""
    code, lanes = row.code, row.lanes
    nonce = code.cast(ONE.reverse(code, "%nonce"), "<2 x i64>", "<4 x i32>")
    nonce = code.op(f"insertelement <4 x i32> {nonce}, i32 0, i32 0")
    spread = code.cast(lanes.spread(code, code.cast(nonce, "<4 x i32>", "<2 x i64>")), lanes.words, lanes.dwords)
    numbers = constant("i32", [word for lane in range(lanes.count) for word in (1 + lane, 0, 0, 0)])
    row.counters = code.math("add", lanes.dwords, spread, numbers)
    stream = row.stream([row.counters])[0]
    code.do(f"%mask = bitcast <2 x i64> {lanes.lane(code, stream, 0)} to <2 x i64>")
    if lanes.count == 4:
        _start_masked(row, stream)
        return
    blocks = ["%first"]
    if lanes.count == 2:
        given = code.load("<2 x i64>", "%source")
        crypted = code.xor("<2 x i64>", given, lanes.lane(code, stream, 1))
        code.store("<2 x i64>", crypted, "%target")
        blocks.append(row.pick(given, crypted))
    taken = 16 * (lanes.count - 1)
    vector = blocks[0] if lanes.count == 1 else code.shuffle("<2 x i64>", blocks[0], range(4), blocks[1])
    code.do(f"%begun = bitcast {lanes.words} {lanes.reverse(code, vector)} to {lanes.words}")
    code.do(f"%left = sub i64 %n, {taken}")
    code.do(f"%from = getelementptr i8, ptr %source, i64 {taken}")
    code.do(f"%to = getelementptr i8, ptr %target, i64 {taken}")


def _start_masked(row: Row, stream: Value) -> None:
    code, lanes = row.code, row.lanes
    taken = 16 * (lanes.count - 1)
    some = code.call("i64", "llvm.umin.i64", "i64 %n", f"i64 {taken}")
    bits = code.math("shl", "i64", byte_mask(code, some), 16)
    pick = code.cast(bits, "i64", "<64 x i1>")
    source, target = code.at("%source", -16), code.at("%target", -16)
    vector = crypt_masked(row, stream, source, target, pick)
    first = code.shuffle("<2 x i64>", "%first", [0, 1, *[2] * (lanes.count * 2 - 2)], "zeroinitializer")
    vector = code.math("or", lanes.words, vector, first)
    code.do(f"%begun = bitcast {lanes.words} {lanes.reverse(code, vector)} to {lanes.words}")
    code.do(f"%left = sub i64 %n, {some}")
    code.do(f"%from = getelementptr i8, ptr %source, i64 {taken}")
    code.do(f"%to = getelementptr i8, ptr %target, i64 {taken}")


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


def _crypt(row: Row, stream: Value, source: Value, target: Value, offset: int) -> Value:
    """Emit one whole vector; return its ciphertext."""
    code, kind = row.code, row.lanes.words
    given = code.load(kind, source, offset)
    crypted = code.xor(kind, given, stream)
    code.store(kind, crypted, target, offset)
    return row.pick(given, crypted)


class _Hash:
    """GHASH of a group, printed vector by vector between the rounds of AES.

    The processor could find out by itself what does not depend on each other, but its window is shorter than a group.
    """

    def __init__(self, row: Row, first: Value, text: Value) -> None:
        """Begin with the first vector's input; the others are ciphertext at ``text``."""
        self._row = row
        self._next = first
        self._text = text
        self._done = 0
        self._total: Product | None = None

    def vector(self, _: int = 0) -> None:
        """Emit the product of the next vector, if there is one left."""
        code, lanes = self._row.code, self._row.lanes
        if self._done < GROUP:
            power = lanes.load_spread(code, "%record", POWERS_END - 16 * lanes.count * (GROUP - self._done))
            product = ghash.multiply(code, lanes, self._next, power)
            self._total = ghash.add(code, lanes, self._total, product) if self._total else product
            self._next = lanes.reverse(code, code.load(lanes.words, self._text, lanes.size * self._done))
            self._done += 1

    def end(self) -> Value:
        """Emit what is left, and the reduction; return the first input of the next group."""
        while self._done < GROUP:
            self.vector()
        assert self._total is not None
        return self._row.code.xor(
            self._row.lanes.words, self._next, ghash.reduce(self._row.code, self._row.lanes, self._total)
        )


def _groups(row: Row) -> None:
    """Emit the loop over whole groups. GHASH follows AES, when sealing one group behind."""
    code, lanes = row.code, row.lanes
    size = GROUP * lanes.size
    here = "wide" if row.variant.narrow else "entry"
    second = row.ahead(row.counters, lanes.count)
    pairs = [("source", "ptr", "%from"), ("target", "ptr", "%to"), ("left", "i64", "%left")]
    pairs += [("counters", lanes.dwords, second), ("first", lanes.words, "%begun")]
    code.branch(code.math("icmp uge", "i64", "%left", size), "group" if row.variant.opening else "ahead", "last")
    before, begin = here, [start for *_, start in pairs]
    if not row.variant.opening:
        code.label("ahead")
        _encrypt_group(row, "%from", "%to", second, lambda _: None)
        code.goto("ahead.end")
        code.label("ahead.end")
        begin = [*_advance(row, "a", "%from", "%to", "%left", second), "%begun"]
        before = "ahead.end"
        code.branch(code.math("icmp uge", "i64", begin[2], size), "group", "drain")
    code.label("group")
    source, target, left, counters, first = (
        code.phi(f"g.{name}", kind, [(start, before), (f"%g.{name}.next", "group.end")])
        for (name, kind, _), start in zip(pairs, begin, strict=True)
    )
    hashed = _Hash(row, first, source if row.variant.opening else code.at(target, -size))
    _encrypt_group(row, source, target, counters, hashed.vector)
    code.do(f"%g.first.next = bitcast {lanes.words} {hashed.end()} to {lanes.words}")
    after = _advance(row, "g", source, target, left, counters)
    code.goto("group.end")
    code.label("group.end")
    more = code.math("icmp uge", "i64", after[2], size)
    code.branch(more, "group", "last" if row.variant.opening else "drain")
    behind = [(f"%g.{name}.next", "group.end") for name, *_ in pairs]
    if not row.variant.opening:
        code.label("drain")
        for (name, kind, _), start in zip(pairs, begin, strict=True):
            code.phi(f"d.{name}", kind, [(start, before), (f"%g.{name}.next", "group.end")])
        hashed = _Hash(row, "%d.first", code.at("%d.target", -size))
        behind = [(f"%d.{name}", "drain") for name, *_ in pairs[:-1]] + [(hashed.end(), "drain")]
        code.goto("last")
    code.label("last")
    for (name, kind, start), end in zip(pairs, behind, strict=True):
        code.phi(f"l.{name}", kind, [(start, here), end])


def _encrypt_group(row: Row, source: Value, target: Value, counters: Value, between: Callable[[int], None]) -> None:
    ahead = [row.ahead(counters, row.lanes.count * j) for j in range(GROUP)]
    for j, stream in enumerate(row.stream(ahead, between)):
        _crypt(row, stream, source, target, row.lanes.size * j)


def _advance(row: Row, name: str, source: Value, target: Value, left: Value, counters: Value) -> list[Value]:
    """Emit the step over a group; return source, target, left and counters behind it, called ``%name.*.next``."""
    size = GROUP * row.lanes.size
    row.code.do(f"%{name}.source.next = getelementptr i8, ptr {source}, i64 {size}")
    row.code.do(f"%{name}.target.next = getelementptr i8, ptr {target}, i64 {size}")
    row.code.do(f"%{name}.left.next = sub i64 {left}, {size}")
    row.code.do(f"%{name}.counters.next = add {row.lanes.dwords} {counters}, {_step(row.lanes, GROUP)}")
    return [f"%{name}.{what}.next" for what in ("source", "target", "left", "counters")]


def _step(lanes: Lanes, vectors: int) -> str:
    return constant("i32", [vectors * lanes.count, 0, 0, 0] * lanes.count)


def _last_group(row: Row) -> None:
    """Emit the vectors that are left, one by one, each with descending powers of H."""
    code, lanes = row.code, row.lanes
    done = code.math("lshr", "i64", code.math("sub", "i64", "%left", "%l.left"), 4)
    blocks = code.math("lshr", "i64", code.math("add", "i64", "%n", 15), 4)
    # Weights: H^1 for the lengths, H^2 for the last block, and so on to the first lane of the first vector.
    exponent = code.math("add", "i64", code.math("sub", "i64", blocks, done), 2)
    back = code.math("mul", "i64", exponent, -16)
    powers = code.at("%record", code.math("add", "i64", back, POWERS_END))
    code.do(f"%powers = getelementptr i8, ptr {powers}, i64 {lanes.size}")
    start = ghash.multiply(code, lanes, "%l.first", code.load(lanes.words, powers, 0))
    code.branch(code.math("icmp uge", "i64", "%l.left", lanes.size), "single", "rest")
    _singles(row, start)
    code.label("rest")
    pairs = [("source", "ptr"), ("target", "ptr"), ("left", "i64"), ("counters", lanes.dwords), ("powers", "ptr")]
    for name, kind in pairs:
        begin = "%powers" if name == "powers" else f"%l.{name}"
        code.phi(f"r.{name}", kind, [(begin, "last"), (f"%s.{name}.next", "single")])
    total = Product(
        *(
            code.phi(f"r.{name}", lanes.words, [(value, "last"), (f"%s.{name}.next", "single")])
            for name, value in zip(Product._fields, start, strict=True)
        )
    )
    (_part_masked if lanes.count == 4 else part_blocks)(row, total)


def _singles(row: Row, start: Product) -> None:
    code, lanes = row.code, row.lanes
    code.label("single")
    source = code.phi("s.source", "ptr", [("%l.source", "last"), ("%s.source.next", "single")])
    target = code.phi("s.target", "ptr", [("%l.target", "last"), ("%s.target.next", "single")])
    left = code.phi("s.left", "i64", [("%l.left", "last"), ("%s.left.next", "single")])
    counters = code.phi("s.counters", lanes.dwords, [("%l.counters", "last"), ("%s.counters.next", "single")])
    powers = code.phi("s.powers", "ptr", [("%powers", "last"), ("%s.powers.next", "single")])
    total = Product(
        *(
            code.phi(f"s.{name}", lanes.words, [(value, "last"), (f"%s.{name}.next", "single")])
            for name, value in zip(Product._fields, start, strict=True)
        )
    )
    vector = lanes.reverse(code, _crypt(row, row.stream([counters])[0], source, target, 0))
    product = ghash.multiply(code, lanes, vector, code.load(lanes.words, powers))
    for name, old, new in zip(Product._fields, total, product, strict=True):
        code.do(f"%s.{name}.next = xor {lanes.words} {old}, {new}")
    for name, pointer in (("source", source), ("target", target), ("powers", powers)):
        code.do(f"%s.{name}.next = getelementptr i8, ptr {pointer}, i64 {lanes.size}")
    code.do(f"%s.left.next = sub i64 {left}, {lanes.size}")
    code.do(f"%s.counters.next = add {lanes.dwords} {counters}, {_step(lanes, 1)}")
    code.branch(code.math("icmp uge", "i64", "%s.left.next", lanes.size), "single", "rest")


def _part_masked(row: Row, total: Product) -> None:
    """Emit the last vector of four lanes, which is not whole."""
    code, lanes = row.code, row.lanes
    code.branch(code.math("icmp ne", "i64", "%r.left", 0), "part", "tag")
    code.label("part")
    pick = code.cast(byte_mask(code, "%r.left"), "i64", "<64 x i1>")
    vector = crypt_masked(row, row.stream(["%r.counters"])[0], "%r.source", "%r.target", pick)
    vector = lanes.reverse(code, vector)
    product = ghash.multiply(code, lanes, vector, code.load(lanes.words, "%r.powers"))
    folded = ghash.fold(code, lanes, ghash.add(code, lanes, total, product))
    code.goto("finish")
    code.label("tag")
    whole = ghash.fold(code, lanes, total)
    code.goto("finish")
    code.label("finish")
    finish(row, folded, whole)
