"""numba does not notice a change in a kernel that another file calls; vantun/kernel_cache.py has to know such files."""

from __future__ import annotations

import ast
from pathlib import Path

from vantun.kernel_cache import SHARED_KERNELS

ROOT = Path(__file__).resolve().parents[2]


def test_every_kernel_that_is_called_from_another_file_is_known() -> None:
    sources = {
        path: path.read_text() for name in ("vantun", "accel", "drivers") for path in (ROOT / name).rglob("*.py")
    }
    kernels = {path: text for path, text in sources.items() if "@kernel" in text}
    assert len(kernels) > 20
    unknown = set()
    for path, text in kernels.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            called = (ROOT / node.module.replace(".", "/")).with_suffix(".py")
            if called in kernels and called != path:
                name = str(called.relative_to(ROOT))
                if not any(name == known or name.startswith(known + "/") for known in SHARED_KERNELS):
                    unknown.add(f"{name}, called from {path.relative_to(ROOT)}")
    assert not unknown, f"add to SHARED_KERNELS: {'; '.join(sorted(unknown))}"
