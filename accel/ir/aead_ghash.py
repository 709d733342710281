"""GHASH by carry-less multiplication of whole vectors (NIST SP 800-38D, section 6.4), in the bit order of POLYVAL.

A product takes three multiplications of halves (Karatsuba). They are the bottleneck where AES is fast: in the time of
one, Zen 5 does four rounds of AES. Products are summed unreduced; the reduction is Gueron's for POLYVAL (two
multiplications by the polynomial's constant).
"""

from __future__ import annotations

from typing import NamedTuple

from accel.ir.aead_code import Code, Lanes, Value, constant

_POLYNOMIAL = -0x3E00000000000000
"""0xc2 << 56: x^127 + x^126 + x^121 of the polynomial x^128 + x^127 + x^126 + x^121 + 1."""


class Product(NamedTuple):
    """An unreduced sum of products, each part a vector of the same lanes.

    ``middle`` has the products of the sums of halves: low and high are still to be added to it.
    """

    low: Value
    middle: Value
    high: Value


def multiply(code: Code, lanes: Lanes, a: Value, b: Value) -> Product:
    """Return the product of each lane."""
    x, y = (code.xor(lanes.words, value, lanes.swap(code, value)) for value in (a, b))
    middle = lanes.multiply(code, x, y, 0x00)
    return Product(lanes.multiply(code, a, b, 0x00), middle, lanes.multiply(code, a, b, 0x11))


def add(code: Code, lanes: Lanes, a: Product, b: Product) -> Product:
    """Return the sum."""
    return Product(*(code.xor(lanes.words, left, right) for left, right in zip(a, b, strict=True)))


def fold(code: Code, lanes: Lanes, product: Product) -> Product:
    """Return the sum over the lanes, of one lane."""
    return Product(*(lanes.fold(code, part) for part in product))


def reduce(code: Code, lanes: Lanes, product: Product) -> Value:
    """Return the product modulo the polynomial, times x^-128, in each lane."""
    kind = lanes.words
    places = range(0, 2 * lanes.count, 2)
    zero = "zeroinitializer"
    up = [index for lane in places for index in (2 * lanes.count, lane)]
    down = [index for lane in places for index in (lane + 1, 2 * lanes.count)]
    middle = code.xor(kind, product.middle, product.low, product.high)
    low = code.xor(kind, product.low, code.shuffle(kind, middle, up, zero))
    high = code.xor(kind, product.high, code.shuffle(kind, middle, down, zero))
    factor = constant("i64", [_POLYNOMIAL] * (2 * lanes.count))
    for _ in range(2):
        low = code.xor(kind, lanes.swap(code, low), lanes.multiply(code, low, factor, 0x00))
    return code.xor(kind, low, high)
