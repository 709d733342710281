"""Known answers for code 1, made with ``galois``, which shares nothing with VANTUN. ``--check`` compares with the file.

    python tests/vectors/generate_code1.py [--check]

Every answer is verified here: the data units named by ``lost`` are dropped, and solving the linear system of the others
and the parity units with galois gives them back.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import galois
import numpy as np

FILE = Path(__file__).with_name("code1.json")
FIELD = galois.GF(2**8, irreducible_poly="x^8 + x^4 + x^3 + x^2 + 1", primitive_element="x", repr="int")
SHAPES: tuple[tuple[int, int, int, tuple[int, ...], tuple[int, ...]], ...] = (
    (1, 0, 1, (0,), (0,)),
    (1, 127, 3, (126,), (0,)),
    (2, 0, 8, (0, 1), (1, 0)),
    (5, 0, 9, (0, 1, 2), (0, 2, 4)),
    (5, 125, 17, (3, 126, 64), (4, 0, 1)),
    (10, 0, 33, (0, 1, 2, 3), (9, 3, 0, 6)),
    (20, 100, 7, (9, 8, 7, 6, 5, 4), (19, 0, 18, 1, 17, 2)),
    (128, 0, 5, (0, 126), (0, 127)),
    (128, 1, 2, tuple(range(0, 127, 9)), tuple(range(1, 128, 9))),
)
"""(k, column of unit 0, bytes, rows, lost)."""


def matrix() -> Any:
    """Return code 1 by its formula."""
    rows, columns = FIELD(np.arange(128, 255))[:, None], FIELD(np.arange(128))[None, :]
    return (FIELD(128) + columns) / (rows + columns)


def answer(code: Any, shape: tuple[int, int, int, tuple[int, ...], tuple[int, ...]]) -> dict[str, Any]:
    """Return one known answer; the data is the SHA-256 of its place."""
    k, column, length, rows, lost = shape
    units = FIELD(
        [list(hashlib.sha256(f"code 1, {k}, {column}, {unit}".encode()).digest() * 2)[:length] for unit in range(k)]
    )
    part = code[np.array(rows)][:, (column + np.arange(k)) % 128]
    parity = part @ units
    verify(part, units, parity, lost)
    return {
        "k": k,
        "column": column,
        "rows": list(rows),
        "lost": list(lost),
        "units": [bytes(unit).hex() for unit in np.asarray(units, np.uint8)],
        "parity": [bytes(unit).hex() for unit in np.asarray(parity, np.uint8)],
    }


def verify(part: Any, units: Any, parity: Any, lost: tuple[int, ...]) -> None:
    """Solve for the lost units."""
    kept = [j for j in range(len(units)) if j not in lost]
    right = parity + part[:, kept] @ units[kept] if kept else parity
    found = np.linalg.inv(part[:, list(lost)]) @ right
    if not np.array_equal(found, units[list(lost)]):
        raise SystemExit(f"galois cannot rebuild {lost} of a span of {len(units)}")


def main() -> int:
    """Write the file, or compare it."""
    code = matrix()
    document = {
        "source": "tests/vectors/generate_code1.py",
        "matrix_sha256": hashlib.sha256(np.asarray(code, np.uint8).tobytes()).hexdigest(),
        "answers": [answer(code, shape) for shape in SHAPES],
    }
    text = json.dumps(document, indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        return 0 if FILE.read_text(encoding="utf-8") == text else 1
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
