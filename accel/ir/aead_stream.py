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
    apply
        ``void (ptr source, ptr stream, i64 n, ptr target)``: the text xor the stream.
    """

    stream: str
    authenticate: str
    size: int
    block: int
    counter: int
    apply: str


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
    """Emit from ``begin`` to ``done``: the text xor the stream, one buffer after the other."""
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
    code.do(f"call void @{cipher.apply}(ptr {source}, ptr {key}, i64 {size}, ptr {target})")
    code.do(f"%offset.next = add i64 {offset}, {size}")
    code.branch(code.math("icmp ult", "i64", "%offset.next", "%n"), "refill", "done")
    code.label("refill")
    code.do(f"%counter.next = add i64 {counter}, {counters}")
    code.do(f"call void @{cipher.stream}(ptr %record, <2 x i64> %nonce, i64 %counter.next, ptr {stream})")
    code.goto("chunk")


def apply(name: str, width: int, attributes: str, declared: set[str], *, masked: bool) -> str:
    """Return ``void name(ptr source, ptr stream, i64 n, ptr target)``: the text xor the stream, by vectors of bytes.

    What is less than a vector is done under a mask, or by the next smaller vectors down to bytes.
    """
    code = Code(declared)
    code.label("entry")
    code.goto("w0")
    code.label("w0")
    widths = [width] if masked else [size for size in (64, 32, 16, 4, 1) if size <= width]
    at, before = "0", "entry"
    for i, size in enumerate(widths):
        kind = f"<{size} x i8>"
        if i:
            code.label(f"w{i}")
        at = code.phi(f"at{i}", "i64", [(at, before), *([(f"%next{i - 1}", f"body{i - 1}")] if i else [])])
        code.do(f"%fit{i} = add i64 {at}, {size}")
        code.branch(code.math("icmp ule", "i64", f"%fit{i}", "%n"), f"body{i}", f"w{i + 1}")
        code.label(f"body{i}")
        here = code.phi(f"here{i}", "i64", [(at, f"w{i}"), (f"%next{i}", f"body{i}")])
        text, stream = code.load(kind, "%source", here), code.load(kind, "%stream", here)
        code.store(kind, code.xor(kind, text, stream), "%target", here)
        code.do(f"%next{i} = add i64 {here}, {size}")
        after = code.math("add", "i64", f"%next{i}", size)
        code.branch(code.math("icmp ule", "i64", after, "%n"), f"body{i}", f"w{i + 1}")
        before = f"w{i}"
    last = len(widths)
    code.label(f"w{last}")
    rest = code.phi("rest", "i64", [(at, before), (f"%next{last - 1}", f"body{last - 1}")])
    if masked:
        code.branch(code.math("icmp ult", "i64", rest, "%n"), "part", "end")
        code.label("part")
        _apply_part(code, rest)
        code.goto("end")
        code.label("end")
    code.do("ret void")
    return code.function(f"internal void @{name}(ptr %source, ptr %stream, i64 %n, ptr %target)", attributes)


def _apply_part(code: Code, at: Value) -> None:
    kind = "<64 x i8>"
    missing = code.math("sub", "i64", 64, code.math("sub", "i64", "%n", at))
    pick = f"<64 x i1> {code.cast(code.math('lshr', 'i64', -1, missing), 'i64', '<64 x i1>')}"
    source, target = code.at("%source", at), code.at("%target", at)
    load = "llvm.masked.load.v64i8.p0"
    text = code.call(kind, load, f"ptr {source}", "immarg i32 1", pick, f"{kind} zeroinitializer")
    crypted = code.xor(kind, text, code.load(kind, "%stream", at))
    code.call("void", "llvm.masked.store.v64i8.p0", f"{kind} {crypted}", f"ptr {target}", "immarg i32 1", pick)
