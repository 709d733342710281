"""Seal and open of packets, by every instruction set: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.

Exported, for each name ``isa`` in accel.ir.aead_layout.ISAS: ``seal_isa`` and ``open_isa`` do a job, ``raw_seal_isa``
and ``raw_open_isa`` one text without header protection; ``install`` and ``scrub`` are for all. Everything is constant
in time for what is secret: no look-up by it, no branch on it but the verdict on a packet.
"""

from __future__ import annotations

import platform
from dataclasses import replace

from accel.ir import aead_batch, aead_chacha, aead_gcm, aead_gcm_end, aead_plain, aead_poly, aead_rows, aead_stream
from accel.ir.aead_chacha import Width
from accel.ir.aead_code import ONE, Code, Lanes
from accel.ir.aead_gcm_row import Variant
from accel.ir.aead_layout import HEADER_KEY, KEY, ROUNDS
from accel.ir.aead_limbs import FUSED, SHORT, Form
from accel.ir.aead_rows import Suites
from accel.ir.aead_stream import Stream

_FEATURES = {
    "avx512": "+aes,+pclmul,+vaes,+vpclmulqdq,+avx2,+bmi2,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512ifma",
    "vaes": "+aes,+pclmul,+vaes,+vpclmulqdq,+avx2,+bmi2",
    "avx2": "+aes,+pclmul,+avx2,+bmi2",
    "aes": "+aes,+pclmul,+sse4.1,+ssse3",
    "plain": "",
}
_BLOCKS = {"avx512": 4, "vaes": 2, "avx2": 1, "aes": 1}
"""AES blocks in a vector."""
_WIDTHS = {
    "avx512": Width(16, 2, pinned=False),
    "vaes": Width(8),
    "avx2": Width(8),
    "aes": Width(4),
    "plain": Width(4, pinned=False),
}
"""Blocks of ChaCha20 that are done side by side."""
_FORMS = {"avx512": FUSED, "vaes": SHORT, "avx2": SHORT}
"""Forms of Poly1305's numbers in vectors; without one it works on 64-bit integers."""
_CHACHA = 3
_FRAMES = 16384
"""Bytes of stack, far more than a kernel takes beside its batch."""


def part_of(name: str) -> str:
    """Return which part of the module has a function: an instruction set, or ``"plain"`` for what all share."""
    isa = name.rpartition("_")[2]
    return isa if isa in _FEATURES else "plain"


def text(machine: str = "", part: str = "") -> str:
    """Return the module for ``machine`` (as ``uname -m`` says; default: this one), or one part of it.

    Elsewhere than on x86, ``plain`` is all there is.
    """
    x86 = (machine or platform.machine()) in ("x86_64", "AMD64")
    parts = [isa for isa in (_FEATURES if x86 else ["plain"]) if part in ("", isa)]
    declared: set[str] = set()
    functions = []
    if "plain" in parts:
        functions += [aead_plain.cipher("cipher_plain", "", declared), aead_plain.dot("dot_plain", "", declared)]
        functions += [aead_plain.install(declared), _scrub(declared)]
    for isa in parts:
        features = _FEATURES[isa]
        functions += _variant(isa, f'"target-features"="{features}"' if features else "", declared)
    return "\n".join([aead_gcm_end.tables(), *functions, *sorted(declared)])


def _scrub(declared: set[str]) -> str:
    """Return ``scrub``, which zeroes the stack as deep as a kernel reaches: there lie keys that found no register.

    It can only do so for the thread that calls it, and from where that is; the context is not looked at.
    """
    size = aead_batch.BYTES + _FRAMES
    code = Code(declared)
    code.label("entry")
    code.do(f"%room = alloca [{size} x i8], align 64")
    code.goto("loop")
    code.label("loop")
    place = code.phi("place", "i64", [(0, "entry"), ("%next", "loop")])
    code.do(f"store volatile <2 x i64> zeroinitializer, ptr {code.at('%room', place)}, align 16")
    code.do(f"%next = add i64 {place}, 16")
    code.branch(code.math("icmp ult", "i64", "%next", size), "loop", "done")
    code.label("done")
    code.do("ret i64 0")
    return code.function("i64 @scrub(ptr %context)", "")


def _variant(isa: str, attributes: str, declared: set[str]) -> list[str]:
    """Return the functions of one instruction set."""
    width = 4 * _WIDTHS[isa].lanes
    functions = [aead_stream.apply(f"xor_{isa}", width, attributes, declared, masked=isa == "avx512")]
    functions += [] if isa in _BLOCKS else _plain_aes(isa, attributes, declared)
    packets: dict[bool, dict[int, str]] = {False: {}, True: {}}
    masks = {}
    for number, (size, rounds) in enumerate(ROUNDS.items(), 1):
        masks[number] = f"mask{size}_{isa}"
        functions.append(_aes_mask(isa, size, attributes, declared))
        for opening, names in packets.items():
            names[number] = f"{'open' if opening else 'seal'}{size}_{isa}"
            if isa in _BLOCKS:
                variant = Variant(names[number], Lanes(_BLOCKS[isa]), rounds, opening, attributes)
                functions += _gcm(variant, declared)
            else:
                cipher = Stream(f"stream{size}_{isa}", f"ghash_{isa}", 16 * aead_plain.BLOCKS, 16, 1, f"xor_{isa}")
                functions.append(aead_stream.function(names[number], cipher, attributes, declared, opening=opening))
    functions += _chacha(isa, attributes, declared)
    for opening, names in packets.items():
        what = "open" if opening else "seal"
        batched = (
            _CHACHA, f"add_{what}_{isa}", f"run_{what}_{isa}", f"add_mask_{isa}", f"run_masks_{isa}",
        )  # fmt: skip
        suites = Suites(names, masks, batched, attributes)
        job = aead_rows.open_ if opening else aead_rows.seal
        functions.append(job(f"{what}_{isa}", suites, declared))
        functions.append(_raw(f"raw_{what}_{isa}", suites, declared))
    return functions


def _gcm(variant: Variant, declared: set[str]) -> list[str]:
    if variant.lanes.count != 2:
        return [aead_gcm.function(variant, declared)]
    short = replace(variant, name=f"{variant.name}_short", lanes=ONE, short=True)
    wide = replace(variant, narrow=short.name)
    return [aead_gcm.function(short, declared), aead_gcm.function(wide, declared)]


def _chacha(isa: str, attributes: str, declared: set[str]) -> list[str]:
    """Return ChaCha20-Poly1305: of batches, and of a text that is too long for one."""
    width, masks = _WIDTHS[isa], replace(_WIDTHS[isa], sets=1)
    size = aead_chacha.BLOCK * width.blocks
    cipher = Stream(f"stream_chacha_{isa}", f"poly1305_{isa}", size, aead_chacha.BLOCK, 0, f"xor_{isa}")
    functions = [
        aead_chacha.stream_rows(f"stream_rows_{isa}", width, attributes, declared),
        aead_chacha.stream_rows(f"stream_masks_{isa}", masks, attributes, declared),
        aead_chacha.stream(cipher.stream, f"stream_rows_{isa}", width.blocks, attributes, declared),
        *_poly1305(cipher.authenticate, _FORMS.get(isa), attributes, declared),
        aead_batch.add_mask(f"add_mask_{isa}", attributes, declared),
        aead_batch.run_masks(f"run_masks_{isa}", f"stream_masks_{isa}", attributes, declared),
    ]
    for what in ("seal", "open"):
        alone, run, opening = f"{what}_chacha_{isa}", f"run_{what}_{isa}", what == "open"
        functions.append(aead_stream.function(alone, cipher, attributes, declared, opening=opening))
        functions.append(aead_batch.run(run, isa, attributes, declared, opening=opening))
        functions.append(aead_batch.add(f"add_{what}_{isa}", run, alone, attributes, declared))
    return functions


def _poly1305(name: str, form: Form | None, attributes: str, declared: set[str]) -> list[str]:
    if form is None:
        return [aead_poly.poly1305(name, attributes, declared)]
    scalar = aead_poly.poly1305(f"{name}_short", attributes, declared)
    return [scalar, aead_poly.poly1305_wide(name, f"{name}_short", form, attributes, declared)]


def _aes_mask(isa: str, size: int, attributes: str, declared: set[str]) -> str:
    """Return ``i64 (ptr record, <2 x i64> sample)``: the first half of the encrypted sample (RFC 9001, 5.4.3)."""
    code = Code(declared)
    code.label("entry")
    if isa in _BLOCKS:
        keys = [code.load(ONE.words, "%record", HEADER_KEY + 16 * i, 16) for i in range(ROUNDS[size] + 1)]
        state = code.xor(ONE.words, "%sample", keys[0])
        for key in keys[1:]:
            state = ONE.aes(code, state, key, last=key == keys[-1])
    else:
        blocks = code.op(f"alloca [{16 * aead_plain.BLOCKS} x i8], align 16")
        code.store(f"<{16 * aead_plain.BLOCKS} x i8>", "zeroinitializer", blocks, 0, 16)
        code.store("<2 x i64>", "%sample", blocks, 0, 16)
        code.do(f"call void @cipher_plain(ptr {code.at('%record', HEADER_KEY)}, i64 {ROUNDS[size]}, ptr {blocks})")
        state = code.load("<2 x i64>", blocks, 0, 16)
    code.do(f"ret i64 {code.op(f'extractelement <2 x i64> {state}, i32 0')}")
    return code.function(f"internal i64 @mask{size}_{isa}(ptr %record, <2 x i64> %sample)", attributes)


def _plain_aes(isa: str, attributes: str, declared: set[str]) -> list[str]:
    """Return the counter streams of both key sizes, and their authenticator."""
    functions = [aead_poly.ghash(f"ghash_{isa}", "dot_plain", attributes, declared)]
    for size, rounds in ROUNDS.items():
        code = Code(declared)
        code.label("entry")
        counter = code.op("trunc i64 %counter to i32")
        nonce = code.cast("%nonce", "<2 x i64>", "<4 x i32>")
        for block in range(aead_plain.BLOCKS):
            number = code.call("i32", "llvm.bswap.i32", f"i32 {code.math('add', 'i32', counter, block)}")
            code.store(
                "<4 x i32>", code.op(f"insertelement <4 x i32> {nonce}, i32 {number}, i32 3"), "%out", 16 * block
            )
        code.do(f"call void @cipher_plain(ptr {code.at('%record', KEY)}, i64 {rounds}, ptr %out)")
        code.do("ret void")
        head = f"internal void @stream{size}_{isa}(ptr %record, <2 x i64> %nonce, i64 %counter, ptr %out)"
        functions.append(code.function(head, attributes))
    return functions


def _raw(name: str, suites: Suites, declared: set[str]) -> str:
    """Return a function of one text; its context has RAW_WORDS."""
    code = Code(declared)
    code.label("entry")
    record, head, source = (code.load("ptr", "%context", 8 * i) for i in range(3))
    size, target, bits = (code.load(kind, "%context", 24 + 8 * i) for i, kind in enumerate(("i64", "ptr", "i64")))
    nonce, first = code.load("<2 x i64>", head), code.load("<2 x i64>", head, 16)
    arguments = f"ptr {record}, <2 x i64> {nonce}, <2 x i64> {first}, ptr {source}, i64 {size}, ptr {target}"
    cases = " ".join(f"i32 {number}, label %suite{number}" for number in suites.packets)
    code.do(f"switch i32 {code.load('i32', record)}, label %batched [ {cases} ]")
    for number, function in suites.packets.items():
        code.label(f"suite{number}")
        code.do(f"ret i64 {code.op(f'call i64 @{function}({arguments}, i64 {bits})')}")
    code.label("batched")
    _, add, run, *_ = suites.batched
    batch, result = code.op(f"alloca [{aead_batch.BYTES} x i8], align 64"), code.op("alloca i64")
    code.store("i64", "0", batch, aead_batch.COUNT, 8)
    code.store("i64", "0", batch, aead_batch.TOTAL, 8)
    code.do(f"call void @{add}(ptr {batch}, {arguments}, i64 {bits}, ptr {result})")
    code.do(f"call void @{run}(ptr {batch})")
    code.do(f"ret i64 {code.load('i64', result)}")
    return code.function(f"i64 @{name}(ptr %context)", suites.attributes)
