"""numba does not notice a change in a file whose kernels or constants another uses; vantun/kernel_cache.py does."""

from __future__ import annotations

import ast
from pathlib import Path

from vantun.kernel_cache import SHARED_KERNELS

ROOT = Path(__file__).resolve().parents[2]
TYPES_ONLY = {"drivers/kernel.py", "drivers/library.py", "vantun/errors.py"}
"""Imported by files with kernels, but by no kernel."""


def test_every_file_that_kernels_call_or_take_constants_from_is_known() -> None:
    sources = {
        path: path.read_text() for name in ("vantun", "accel", "drivers") for path in (ROOT / name).rglob("*.py")
    }
    kernels = {path: text for path, text in sources.items() if "\n@kernel\n" in text}
    assert len(kernels) > 20
    unknown = set()
    for path, text in kernels.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            called = (ROOT / node.module.replace(".", "/")).with_suffix(".py")
            name = str(called.relative_to(ROOT))
            covered = any(name == known or name.startswith(known + "/") for known in SHARED_KERNELS)
            if called in sources and called != path and name not in TYPES_ONLY and not covered:
                unknown.add(f"{name}, imported by {path.relative_to(ROOT)}")
    assert not unknown, f"add to SHARED_KERNELS: {'; '.join(sorted(unknown))}"
