"""Known answers that every engine must give before it may serve; made by others (tests/vectors/SOURCES.md)."""

from __future__ import annotations

from dataclasses import dataclass

from accel.engine import KeySpec, Suite
from accel.trials import SealRow, SpanRow


@dataclass(frozen=True)
class SealedPacket:
    """A packet and what it must be sealed to; the slot is that of key phase 0, both phases have ``keys``."""

    keys: KeySpec
    row: SealRow
    sealed: bytes


def _sealed(keys: KeySpec, number: int, packet: str, sealed: str) -> SealedPacket:
    return SealedPacket(keys, SealRow(0, number, bytes.fromhex(packet)), bytes.fromhex(sealed))


SEALED_PACKETS = (
    _sealed(
        KeySpec(
            Suite.AES_128_GCM,
            bytes.fromhex("1f369613dd76d5467730efcbe3b1a22d"),
            bytes.fromhex("fa044b2f42a3fd3b46fb255c"),
            bytes.fromhex("9f50449e04a0e810283a1e9933adedd2"),
        ),
        4294967301,
        "478394c8f03e515708000000050102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021",
        "4f8394c8f03e515708e5448fc398e32d31dfdd45fee314193d256df3ace0391a003b463af7cef0741d06418f12ce5764"
        "27949428d48161d53d8ea090c281",
    ),
    _sealed(
        KeySpec(
            Suite.AES_256_GCM,
            bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
            bytes.fromhex("cafebabefacedbaddecaf888"),
            bytes.fromhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
        ),
        4294967301,
        "478394c8f03e515708000000050102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021",
        "508394c8f03e515708070f821008f6f05614256e00dfbda1aee7f88c79044c9c9d8cabf79c6b7c93dafa57a9ee5e18df"
        "512b9699f1cbc8ff07020583d8cf",
    ),
    _sealed(
        KeySpec(
            Suite.CHACHA20_POLY1305,
            bytes.fromhex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8"),
            bytes.fromhex("e0459b3474bdd0e44a41c144"),
            bytes.fromhex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4"),
        ),
        4294967301,
        "478394c8f03e515708000000050102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021",
        "4d8394c8f03e5157085b52e764604a7d85e1c94910660b89fcffc1111eb95d2c5b2e2de13fae31f64b48a2ab08afe3d2"
        "2d304dccebbbdc6cce2bdf645e30",
    ),
)
"""One for each suite, in the second key phase, with a packet number beyond 32 bits; from tests/vectors/packets.json."""

SPAN = SpanRow(
    units=tuple(
        map(
            bytes.fromhex,
            (
                "9d7b956eeb1d7d7b5960c891742d4061c1",
                "015a1e20ae3b33c24e5a239ff86eebe2e0",
                "58f5091782efc9d7ff04b72a4446ee0fed",
                "9a6a80b32f7082e18eee4452e6d426cfdd",
                "af029cb51f27e8431c3f5ec253a97b8550",
            ),
        )
    ),
    column=125,
    rows=(3, 126, 64),
    lost=(4, 0, 1),
)
"""A span across the end of the columns; from tests/vectors/code1.json."""
PARITY = tuple(
    map(
        bytes.fromhex,
        (
            "c082cf96d5c42e328fbf90f2b71b0b3443",
            "a0e42c4dac7ad20068cb05fefbbd9cd4c1",
            "65ce707351280a6017d6755f97df9c9dca",
        ),
    )
)
"""Its parity units."""
