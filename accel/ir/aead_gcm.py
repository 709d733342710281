"""AES-GCM of one packet's payload (NIST SP 800-38D), for vectors of 1, 2 or 4 blocks.

The counter of vector 0 begins at 1, so its first lane is the mask of the tag, where GHASH has its first block: the
associated data. Both streams then run in step over the payload. ``GROUP`` vectors share a reduction: in a whole group
every lane is multiplied by the same power, H^(lanes x vectors to its end), and the lanes stay apart. In the last group
each lane has the power of its own place, and the lanes are summed.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.ir import aead_ghash as ghash
from accel.ir.aead_code import ONE, Code, Value, constant
from accel.ir.aead_gcm_last import End, byte_mask, crypt, crypt_masked, fill, last_group
from accel.ir.aead_gcm_row import GROUP, Row, Variant
from accel.ir.aead_ghash import Product
from accel.ir.aead_layout import KEY, POWERS_END
from accel.ir.aead_stream import PARAMETERS


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
    code.do(f"%stream = alloca [{GROUP * row.lanes.size} x i8], align 64")
    row.keys = [row.lanes.load_spread(code, "%record", KEY + 16 * i) for i in range(variant.rounds + 1)]
    _start(row)
    last_group(row, _groups(row))
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


def _groups(row: Row) -> list[End]:
    """Emit the loop over whole groups, and the key stream behind them. GHASH is, when sealing, one group behind."""
    code, lanes = row.code, row.lanes
    size = GROUP * lanes.size
    here = "wide" if row.variant.narrow else "entry"
    second = row.ahead(row.counters, 1)
    pairs = [("source", "ptr", "%from"), ("target", "ptr", "%to"), ("left", "i64", "%left")]
    pairs += [("counters", lanes.dwords, second), ("first", lanes.words, "%begun")]
    if row.variant.short:
        code.goto("last")
        return _rest(row, pairs, here, grouped=False)
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
    ends = []
    if not row.variant.opening:
        code.label("drain")
        for (name, kind, _), start in zip(pairs, begin, strict=True):
            code.phi(f"d.{name}", kind, [(start, before), (f"%g.{name}.next", "group.end")])
        ends += fill(row, "d", (4, GROUP), lambda: _Hash(row, "%d.first", code.at("%d.target", -size)))
    return ends + _rest(row, pairs, here, grouped=row.variant.opening)


def _rest(row: Row, pairs: list[tuple[str, str, Value]], here: str, *, grouped: bool) -> list[End]:
    """Emit the key stream of a rest with no GHASH to be done before, from ``here`` and, if ``grouped``, from groups."""
    row.code.label("last")
    for name, kind, start in pairs:
        behind = [(f"%g.{name}.next", "group.end")] if grouped else []
        row.code.phi(f"l.{name}", kind, [(start, here), *behind])
    return fill(row, "l", (1, 4) if row.variant.short else (1, 4, GROUP), None)


def _encrypt_group(row: Row, source: Value, target: Value, counters: Value, between: Callable[[int], None]) -> None:
    ahead = [row.ahead(counters, j) for j in range(GROUP)]
    for j, stream in enumerate(row.stream(ahead, between)):
        crypt(row, stream, source, target, row.lanes.size * j)


def _advance(row: Row, name: str, source: Value, target: Value, left: Value, counters: Value) -> list[Value]:
    """Emit the step over a group; return source, target, left and counters behind it, called ``%name.*.next``."""
    size = GROUP * row.lanes.size
    row.code.do(f"%{name}.source.next = getelementptr i8, ptr {source}, i64 {size}")
    row.code.do(f"%{name}.target.next = getelementptr i8, ptr {target}, i64 {size}")
    row.code.do(f"%{name}.left.next = sub i64 {left}, {size}")
    row.code.do(f"%{name}.counters.next = add {row.lanes.dwords} {counters}, {row.step(GROUP)}")
    return [f"%{name}.{what}.next" for what in ("source", "target", "left", "counters")]
