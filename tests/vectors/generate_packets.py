"""Known answers for data packets, made with aioquic's packet protection over OpenSSL; ``--check`` compares the file.

    python tests/vectors/generate_packets.py [--check]

Keys: RFC 9001, A.1 (client) and A.5; AES-256 with key and IV of test case 16 of the GCM specification and the header
key of FIPS 197, C.3. Packets: docs/protocol.md. Each packet is opened again here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from aioquic._crypto import AEAD, HeaderProtection

FILE = Path(__file__).with_name("packets.json")
KEYS = {
    "aes-128-gcm": {
        "key": "1f369613dd76d5467730efcbe3b1a22d",
        "iv": "fa044b2f42a3fd3b46fb255c",
        "hp": "9f50449e04a0e810283a1e9933adedd2",
    },
    "aes-256-gcm": {
        "key": "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "iv": "cafebabefacedbaddecaf888",
        "hp": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    },
    "chacha20-poly1305": {
        "key": "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
        "iv": "e0459b3474bdd0e44a41c144",
        "hp": "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
    },
}
HEADER_CIPHER = {"aes-128-gcm": b"aes-128-ecb", "aes-256-gcm": b"aes-256-ecb", "chacha20-poly1305": b"chacha20"}
ROWS = ((0, 0, 4), (654360564, 0, 16), ((1 << 32) + 5, 1, 33), ((1 << 62) - 1, 1, 77))
"""(packet number, key phase, bytes of payload)."""


def answer(suite: str, number: int, phase: int, size: int) -> dict[str, Any]:
    """Return one known answer."""
    names = KEYS[suite]
    key, iv, hp = (bytes.fromhex(names[name]) for name in ("key", "iv", "hp"))
    header = bytes([0x43 | phase << 2]) + bytes.fromhex("8394c8f03e515708") + (number & 0xFFFFFFFF).to_bytes(4, "big")
    payload = bytes(range(1, size + 1))
    aead, protection = AEAD(suite.encode(), key, iv), HeaderProtection(HEADER_CIPHER[suite], hp)
    sealed = protection.apply(header, aead.encrypt(payload, header, number))
    plain_header, truncated = protection.remove(sealed, 9)
    opened = aead.decrypt(sealed[13:], plain_header, number)
    if (plain_header, truncated, opened) != (header, number & 0xFFFFFFFF, payload):
        raise SystemExit(f"aioquic does not open its own packet: {suite}, {number}")
    return {"suite": suite, "number": number, "packet": (header + payload).hex(), "sealed": sealed.hex()}


def main() -> int:
    """Write the file, or compare it."""
    answers = [answer(suite, *row) for suite in KEYS for row in ROWS]
    document = {"source": "tests/vectors/generate_packets.py", "keys": KEYS, "answers": answers}
    text = json.dumps(document, indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        return 0 if FILE.read_text(encoding="utf-8") == text else 1
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
