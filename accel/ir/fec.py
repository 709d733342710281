"""Code 1 for every instruction set of this machine: one module, one native call per job.

``fec_encode_<isa>(context)`` and ``fec_decode_<isa>(context)`` take the block of a SpanJob (accel/job_block.py).
``bare_affine_512(context)`` is what the inner loop of GFNI is measured against; see :func:`_bare`.
"""

from __future__ import annotations

import platform

from accel.ir import fec_closed_form, fec_gfni_form, fec_plain, fec_tables, fec_vector, fec_walk
from accel.ir.fec_code import Code, Values

_X86 = ("x86_64", "AMD64")


def text(machine: str = "") -> str:
    """Return the module for ``machine`` (as ``uname -m`` says; default: this one)."""
    parts = [fec_tables.text(), "declare i64 @llvm.smin.i64(i64, i64)\ndeclare i64 @llvm.umax.i64(i64, i64)\n"]
    parts.append("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    parts += [fec_closed_form.text(), fec_walk.text(), fec_plain.text()]
    widths = {fec_plain.NAME: fec_plain.WIDTH}
    solvers: dict[str, str] = {}
    if (machine or platform.machine()) in _X86:
        parts += [fec_vector.intrinsics(), fec_gfni_form.intrinsics(), fec_vector.constants()]
        for variant in fec_vector.VARIANTS:
            parts.append(fec_vector.text(variant))
            widths[variant.name] = variant.width
            if variant.affine:
                parts.append(fec_gfni_form.text(variant))
                solvers[variant.name] = variant.name
        parts.append(_bare())
    for name, width in widths.items():
        for operation in ("encode", "decode"):
            code = Code(f"define i64 @fec_{operation}_{name}(ptr %context) nounwind")
            functions = f"ptr @combine_{name}, ptr @solve_{solvers.get(name, fec_plain.NAME)}"
            code.do(f"call void @walk_{operation}(ptr %context, {functions}, i64 {width})")
            parts.append(code.text("ret i64 0"))
    return "\n".join(parts)


def _bare() -> str:
    """Return ``bare_affine_512(context)``: multiplications and sums alone, as fast as this CPU can.

    The context is int64 [4]: address of the source, its vectors of 64 bytes (even), rounds over it, address of 8 x 64
    bytes for the sums. Every vector is multiplied by eight matrices in registers and added to eight sums.
    """
    variant = next(each for each in fec_vector.VARIANTS if each.name == "gfni512")
    code = Code(f"define i64 @bare_affine_512(ptr %context) {variant.attributes}")
    source, vectors, rounds, target = (
        code.element(kind, "%context", index) for index, kind in enumerate(("ptr", "i64", "i64", "ptr"))
    )
    matrices = [code.load(variant.vector, code.at(source, 64 * row)) for row in range(8)]

    def once(_: str, sums: Values) -> Values:
        def pair(i: str, sums: Values) -> Values:
            place = code.at(source, code.set(f"mul i64 {i}, 64"))
            for step in range(2):
                unit = code.load(variant.vector, code.at(place, 64 * step))
                call = f"call {variant.vector} @llvm.x86.vgf2p8affineqb.512({variant.vector} {unit}, {variant.vector}"
                products = [code.set(f"{call} {matrix}, i8 0)") for matrix in matrices]
                sums = [
                    code.set(f"xor {variant.vector} {each}, {product}")
                    for each, product in zip(sums, products, strict=True)
                ]
            return sums

        return code.loop(0, vectors, [(variant.vector, each) for each in sums], pair, 2)

    sums = code.loop(0, rounds, [(variant.vector, "zeroinitializer")] * 8, once)
    for row, each in enumerate(sums):
        code.store(variant.vector, each, code.at(target, 64 * row))
    return code.text(f"ret i64 {vectors}")
