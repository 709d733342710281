"""The end of an AES-GCM function: the last blocks on machines without byte masks, the lengths, the tag.

Nothing beyond the text is read or written. A part of a block is taken from the 16 bytes that end with the text; they
lie in the packet, because a header precedes the text. When opening, it is merged into the last 16 bytes of the target.
"""

from __future__ import annotations

from accel.ir import aead_ghash as ghash
from accel.ir.aead_code import ONE, Code, Value
from accel.ir.aead_gcm_row import Row
from accel.ir.aead_ghash import Product
from accel.ir.aead_layout import POWERS_END

_BLOCK = "<2 x i64>"
_BYTES = "<16 x i8>"


def tables() -> str:
    """Return the tables as globals: ``slide``, PSHUFB indices that move bytes up or down; ``keep``, masks of bytes."""
    slide = [128] * 16 + list(range(16)) + [128] * 16
    keep = [255] * 16 + [0] * 16
    return "\n".join(_table(name, values) for name, values in (("slide", slide), ("keep", keep)))


def _table(name: str, values: list[int]) -> str:
    text = "".join(f"\\{value:02x}" for value in values)
    return f'@{name} = internal constant [{len(values)} x i8] c"{text}", align 16'


def part_blocks(row: Row, total: Product) -> None:
    """Emit what follows the last whole vector of one or two lanes: a block and a part of one, either may be none."""
    code = row.code
    total = ghash.fold(code, row.lanes, total)
    names = ("left", "source", "target", "powers", "stream", *Product._fields)
    kinds = ("i64", "ptr", "ptr", "ptr", "ptr", _BLOCK, _BLOCK, _BLOCK)
    given = (*(f"%r.{name}" for name in names[:5]), *total)
    code.goto("blocks")
    code.label("blocks")
    code.branch(code.math("icmp uge", "i64", "%r.left", 16), "block", "bytes")
    code.label("block")
    text = code.load(_BLOCK, "%r.source")
    crypted = code.xor(_BLOCK, text, code.load(_BLOCK, "%r.stream", 0, 16))
    code.store(_BLOCK, crypted, "%r.target")
    product = _weigh(code, row.pick(text, crypted), "%r.powers")
    behind = (
        code.math("sub", "i64", "%r.left", 16),
        *(code.at(pointer, 16) for pointer in given[1:5]), *ghash.add(code, ONE, total, product),
    )  # fmt: skip
    code.goto("bytes")
    code.label("bytes")
    for name, kind, before, after in zip(names, kinds, given, behind, strict=True):
        code.phi(f"b.{name}", kind, [(before, "blocks"), (after, "block")])
    total = Product(*(f"%b.{name}" for name in Product._fields))
    code.branch(code.math("icmp ne", "i64", "%b.left", 0), "part", "tag")
    code.label("part")
    with_part = ghash.add(code, ONE, total, _part(row))
    code.goto("finish")
    code.label("tag")
    code.goto("finish")
    code.label("finish")
    finish(row, with_part, total)


def _weigh(code: Code, block: Value, power: Value) -> Product:
    return ghash.multiply(code, ONE, ONE.reverse(code, block), code.load(_BLOCK, power, 0, 16))


def _part(row: Row) -> Product:
    """Emit the 1 to 15 bytes that end the text; return their product."""
    code = row.code
    stream = code.load(_BLOCK, "%b.stream", 0, 16)
    before = code.math("sub", "i64", "%b.left", 16)
    ended = code.load(_BLOCK, "%b.source", before)
    given = _slide(code, ended, code.math("sub", "i64", 32, "%b.left"))
    crypted = code.xor(_BLOCK, given, stream)
    if row.variant.opening:
        kept = _keep(code, code.load(_BLOCK, "%b.target", before), "%b.left")
        moved = _slide(code, crypted, "%b.left")
        code.store(_BLOCK, code.math("or", _BLOCK, kept, moved), "%b.target", before)
    else:
        crypted = _keep(code, crypted, code.math("sub", "i64", 0, before))
        code.store(_BLOCK, crypted, "%b.target")  # the tag will overwrite what is too much
    return _weigh(code, row.pick(given, crypted), "%b.powers")


def _slide(code: Code, block: Value, place: Value) -> Value:
    """Return a block's bytes moved as the indices at a place of the table say."""
    given = code.cast(block, _BLOCK, _BYTES)
    indices = code.load(_BYTES, "@slide", place)
    moved = code.call(_BYTES, "llvm.x86.ssse3.pshuf.b.128", f"{_BYTES} {given}", f"{_BYTES} {indices}")
    return code.cast(moved, _BYTES, _BLOCK)


def _keep(code: Code, block: Value, place: Value) -> Value:
    """Return the first 16 - ``place`` bytes of a block, then zeros."""
    return code.math("and", _BLOCK, block, code.load(_BLOCK, "@keep", place))


def finish(row: Row, one: Product, other: Product) -> None:
    """Emit, in block ``finish``, the lengths, the reduction, and what becomes of the tag.

    The sum is ``one`` when coming from block ``part``, ``other`` from block ``tag``.
    """
    code = row.code
    pairs = zip(Product._fields, one, other, strict=True)
    total = Product(*(code.phi(f"f.{name}", _BLOCK, [(a, "part"), (b, "tag")]) for name, a, b in pairs))
    bits = code.math("shl", "i64", "%n", 3)
    lengths = code.op(f"insertelement {_BLOCK} poison, i64 {bits}, i32 0")
    lengths = code.op(f"insertelement {_BLOCK} {lengths}, i64 %aad_bits, i32 1")
    power = code.load(_BLOCK, "%record", POWERS_END - 16, 16)
    total = ghash.add(code, ONE, total, ghash.multiply(code, ONE, lengths, power))
    tag = code.xor(_BLOCK, ONE.reverse(code, ghash.reduce(code, ONE, total)), "%mask")
    if not row.variant.opening:
        code.store(_BLOCK, tag, "%target", "%n")
        code.do("ret i64 1")
        return
    wrong = code.xor(_BLOCK, tag, code.load(_BLOCK, "%source", "%n"))
    low, high = (code.op(f"extractelement {_BLOCK} {wrong}, i32 {half}") for half in range(2))
    right = code.math("icmp eq", "i64", code.math("or", "i64", low, high), 0)
    code.do(f"ret i64 {code.op(f'zext i1 {right} to i64')}")
