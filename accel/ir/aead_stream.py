"""A packet whose key stream and whose authenticator are functions of their own: ChaCha20-Poly1305, and plain AES-GCM.

Sealed: stream, then authentication of the ciphertext. Opened: authentication first; a wrong tag costs no stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel.ir.aead_code import Code, Value

PARAMETERS = "ptr %record, <2 x i64> %nonce, <2 x i64> %first, ptr %source, i64 %n, ptr %target, i64 %aad_bits"
"""Of every function that does a packet's payload: key record, nonce (12 bytes, zeros), first block that is
authenticated, payload of ``n`` bytes (and the tag), where it goes to, bits of associated data. It returns 1, or 0 for a
wrong tag. The 13 bytes before the payload can be read."""


@dataclass(frozen=True)
class Stream:
    """A cipher.

    Attributes
    ----------
    stream
        ``void (ptr record, <2 x i64> nonce, i64 counter, ptr out)`` writes ``size`` bytes.
    authenticate
        ``<2 x i64> (ptr record, ptr one_time, <2 x i64> first, ptr text, i64 n, i64 aad_bits)``; the tag.
    block
        Bytes per counter; the first block is ``one_time``, what the authenticator needs.
    counter
        Of the first block.
    """

    stream: str
    authenticate: str
    size: int
    block: int
    counter: int


def function(name: str, cipher: Stream, attributes: str, declared: set[str], *, opening: bool) -> str:
    """Return a function of PARAMETERS."""
    code = Code(declared)
    code.label("entry")
    stream = code.op(f"alloca [{cipher.size} x i8], align 64")
    code.do(f"call void @{cipher.stream}(ptr %record, <2 x i64> %nonce, i64 {cipher.counter}, ptr {stream})")
    one_time = code.op("alloca [64 x i8], align 64")
    for place in range(0, min(cipher.block, 32), 16):
        code.store("<2 x i64>", code.load("<2 x i64>", stream, place, 16), one_time, place, 16)
    text = "%source" if opening else "%target"
    authenticated = (
        f"call <2 x i64> @{cipher.authenticate}"
        f"(ptr %record, ptr {one_time}, <2 x i64> %first, ptr {text}, i64 %n, i64 %aad_bits)"
    )
    if opening:
        wrong = code.xor("<2 x i64>", code.op(authenticated), code.load("<2 x i64>", "%source", "%n"))
        low, high = (code.op(f"extractelement <2 x i64> {wrong}, i32 {half}") for half in range(2))
        right = code.math("icmp eq", "i64", code.math("or", "i64", low, high), 0)
        code.branch(right, "begin", "wrong")
        code.label("wrong")
        code.do("ret i64 0")
    else:
        code.goto("begin")
    _apply(code, cipher, stream)
    code.label("done")
    if not opening:
        code.store("<2 x i64>", code.op(authenticated), "%target", "%n")
    code.do("ret i64 1")
    return code.function(f"internal i64 @{name}({PARAMETERS})", attributes)


def _apply(code: Code, cipher: Stream, stream: Value) -> None:
    """Emit from ``begin`` to ``done``: the text xor the stream, 16 bytes at a time, then byte by byte."""
    counters = cipher.size // cipher.block
    code.label("begin")
    code.goto("chunk")
    code.label("chunk")
    offset = code.phi("offset", "i64", [(0, "begin"), ("%offset.next", "refill")])
    counter = code.phi("counter", "i64", [(cipher.counter, "begin"), ("%counter.next", "refill")])
    skip = code.phi("skip", "i64", [(cipher.block, "begin"), (0, "refill")])
    room = code.math("sub", "i64", cipher.size, skip)
    left = code.math("sub", "i64", "%n", offset)
    size = code.call("i64", "llvm.umin.i64", f"i64 {room}", f"i64 {left}")
    source, target, key = code.at("%source", offset), code.at("%target", offset), code.at(stream, skip)
    code.branch(code.math("icmp uge", "i64", size, 16), "block", "bytes")
    code.label("block")
    place = code.phi("place", "i64", [(0, "chunk"), ("%place.next", "block")])
    given = code.load("<2 x i64>", source, place)
    code.store("<2 x i64>", code.xor("<2 x i64>", given, code.load("<2 x i64>", key, place)), target, place)
    code.do(f"%place.next = add i64 {place}, 16")
    code.branch(code.math("icmp ule", "i64", code.math("add", "i64", place, 32), size), "block", "bytes")
    code.label("bytes")
    begun = code.phi("begun", "i64", [(0, "chunk"), ("%place.next", "block")])
    code.branch(code.math("icmp ult", "i64", begun, size), "byte", "filled")
    code.label("byte")
    at = code.phi("at", "i64", [(begun, "bytes"), ("%at.next", "byte")])
    code.store("i8", code.xor("i8", code.load("i8", source, at), code.load("i8", key, at)), target, at)
    code.do(f"%at.next = add i64 {at}, 1")
    code.branch(code.math("icmp ult", "i64", "%at.next", size), "byte", "filled")
    code.label("filled")
    code.do(f"%offset.next = add i64 {offset}, {size}")
    code.branch(code.math("icmp ult", "i64", "%offset.next", "%n"), "refill", "done")
    code.label("refill")
    code.do(f"%counter.next = add i64 {counter}, {counters}")
    code.do(f"call void @{cipher.stream}(ptr %record, <2 x i64> %nonce, i64 %counter.next, ptr {stream})")
    code.goto("chunk")
