"""The rehearsal misses nothing: every kernel that Python calls somewhere is in the library that it has made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.kernel_library import KernelLibrary
from vantun.kernel_cache import ROOT
from vantun.kernel_place import find_library

_ONLY_WHEN_BUILDING = {"accel.kernels.crc32c.crc32c"}


def kernels_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and is_kernel(node):
            yield node.name


def is_kernel(node: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "kernel" for mark in node.decorator_list)


class Uses(ast.NodeVisitor):
    """Kernels that are named outside of kernels."""

    def __init__(self, local: dict[str, str], known: set[str]) -> None:
        self.local = local
        self.known = known
        self.found: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if not is_kernel(node):
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and node.id in self.local:
            self.found.add(self.local[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name):
            self.found |= {name for name in self.known if name.endswith(f".{node.value.id}.{node.attr}")}


def called_from_python(root: Path) -> set[str]:
    trees = {
        ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(path.read_text())
        for package in ("drivers", "accel", "vantun")
        for path in (root / package).rglob("*.py")
    }
    known = {f"{module}.{name}" for module, tree in trees.items() for name in kernels_of(tree)}
    found: set[str] = set()
    for module, tree in trees.items():
        local = {name: f"{module}.{name}" for name in kernels_of(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
                local |= {name: full for name, full in names.items() if full in known}
        uses = Uses(local, known)
        uses.visit(tree)
        found |= uses.found
    return found


def test_every_kernel_that_python_calls_is_in_the_library() -> None:
    found = find_library()
    if not isinstance(found, KernelLibrary):
        pytest.skip(f"{found.reason}; {found.next_step}")
    called = called_from_python(ROOT)
    assert len(called) > 60
    assert called - set(found.entries) - _ONLY_WHEN_BUILDING == set(), "vantun/dataplane/warm.py does not call these"
