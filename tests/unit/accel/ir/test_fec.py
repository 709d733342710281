"""The text of the module; what its code computes is tested in tests/engines."""

from __future__ import annotations

import re
from functools import reduce
from operator import xor

import numpy as np
import pytest

from accel.gf256 import multiply
from accel.ir import fec, fec_tables
from accel.ir.fec_code import Code
from accel.ir.fec_gfni_form import aes_product, inverted, isomorphism
from accel.native import function
from drivers.cpu import read_cpu


def test_a_machine_that_is_no_x86_has_no_x86_instructions() -> None:
    text = fec.text("aarch64")
    assert "llvm.x86" not in text
    assert re.findall(r"define i64 @(\w+)", text) == ["fec_encode_plain", "fec_decode_plain"]


def test_every_variant_is_in_one_module() -> None:
    names = re.findall(r"define i64 @(\w+)", fec.text("x86_64"))
    isas = ("gfni512", "gfni256", "avx512", "avx2", "plain")
    assert set(names) == {f"fec_{way}_{isa}" for way in ("encode", "decode") for isa in isas} | {"bare_affine_512"}


def test_what_a_function_may_use_stands_in_its_attributes() -> None:
    """LLVM aborts the process when a function has an instruction that its features do not allow."""
    bodies = fec.text("x86_64").split("\ndefine ")
    with_affine = [body for body in bodies if "call <64 x i8> @llvm.x86.vgf2p8affineqb.512" in body]
    assert with_affine
    assert all("+gfni" in body.split("{")[0] and "+avx512bw" in body.split("{")[0] for body in with_affine)


def test_affine_matrices_multiply() -> None:
    words = re.search(r"@affine = .*\[(i64 .*)\], align", fec_tables.text())
    assert words is not None
    matrices = [int(word.removeprefix("i64 ")) & (1 << 64) - 1 for word in words[1].split(", ")]
    for factor, value in ((1, 0xA7), (2, 0x80), (0x1D, 0x35), (255, 254)):
        rows = [matrices[factor] >> 8 * (7 - i) & 0xFF for i in range(8)]
        product = sum((row & value).bit_count() % 2 << i for i, row in enumerate(rows))
        assert product == multiply(factor, value)


def test_orders_are_their_own_inverses_and_keep_k_units() -> None:
    """Encode looks them up one way, decode the other."""
    found = re.search(r'@orders = private constant \[16384 x i8\] c"([^"]*)"', fec_tables.text())
    assert found is not None
    orders = np.frombuffer(bytes.fromhex(found[1].replace("\\", "")), np.uint8).reshape(128, 128)
    for k in range(1, 129):
        order = orders[k - 1, :k].tolist()
        assert sorted(order) == list(range(k))
        assert [order[place] for place in order] == list(range(k))
        steps = np.diff(order)
        assert k < 6 or k > 16 or len(set(steps.tolist())) > 2  # no load instruction walks at one distance


def test_the_field_of_aes_is_ours_by_another_name() -> None:
    """Products in our field, made in the field of AES (FIPS 197, section 4.2: {57} times {83} is {c1})."""
    assert aes_product(0x57, 0x83) == 0xC1
    there, back = isomorphism(), inverted(isomorphism())

    def mapped(value: int, columns: list[int]) -> int:
        return reduce(xor, (columns[bit] for bit in range(8) if value >> bit & 1), 0)

    for a in range(0, 256, 5):
        for b in range(0, 256, 7):
            assert mapped(aes_product(mapped(a, there), mapped(b, there)), back) == multiply(a, b)


def test_the_module_compiles_for_arm() -> None:
    """Nothing in it is of one machine but what text() leaves out there."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(fec.text("aarch64"))
    module.verify()
    machine = llvm.Target.from_triple("aarch64-linux-gnu").create_target_machine(reloc="pic")
    assert b"\x7fELF" in machine.emit_object(module)[:4]


def test_loops_and_branches_of_code() -> None:
    """Sum of i * i for odd i below n, by the text that Code writes."""
    import llvmlite.binding as llvm

    code = Code("define i64 @sum(i64 %n)")

    def body(i: str, state: list[str]) -> list[str]:
        odd = code.set(f"trunc i64 {i} to i1")
        square = code.set(f"mul i64 {i}, {i}")
        return code.when(odd, [("i64", state[0])], lambda: [code.set(f"add i64 {state[0]}, {square}")])

    total = code.loop(0, "%n", [("i64", "0")], body)[0]
    llvm.parse_assembly(code.text(f"ret i64 {total}")).verify()


@pytest.mark.skipif("gfni" not in read_cpu(mask="").flags, reason="this processor lacks gfni")
def test_the_bare_loop_multiplies_and_adds() -> None:
    source = np.random.default_rng(3).integers(0, 256, 16 * 64, np.uint8)
    target = np.zeros((8, 64), np.uint8)
    context = np.array([source.ctypes.data, 16, 3, target.ctypes.data], np.int64)
    assert function("fec", "bare_affine_512")(context.ctypes.data) == 16
    words = source[: 8 * 64].reshape(8, 8, 8)
    units = source.reshape(16, 8, 8)
    expected = np.zeros((8, 8, 8), np.uint8)
    for bit in range(8):
        rows = words[:, :, None, 7 - bit]
        parity = np.bitwise_count(rows[:, None] & units[None]) & 1
        expected |= (np.bitwise_xor.reduce(parity, axis=1) << bit).astype(np.uint8)
    assert np.array_equal(target.reshape(8, 8, 8), expected)
