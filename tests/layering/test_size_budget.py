"""A budget for files, functions and parameters: in network code it is the connection object that grows without end."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 7
PACKAGES = ("vantun", "accel", "drivers")

FILES = [path for folder in (*PACKAGES, "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
FILES += sorted((ROOT / "accel").rglob("*.h"))
SOURCES = [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_file_fits(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{name(path)} has {lines} lines, {FILE_LINES} are allowed: give a part of it a file"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_fit(path: Path) -> None:
    """Lines count from ``def`` to the end, without the docstring; ``self`` is no parameter."""
    too_big: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0]
        has_docstring = ast.get_docstring(node, clean=False) is not None
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
        lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = sum(argument.arg not in ("self", "cls") for argument in arguments)
        where = f"{name(path)}:{node.lineno} {node.name}"
        if lines > FUNCTION_LINES:
            too_big.append(f"{where} has {lines} lines, {FUNCTION_LINES} are allowed")
        if parameters > PARAMETERS:
            too_big.append(f"{where} has {parameters} parameters, {PARAMETERS} are allowed")
    assert not too_big, "; ".join(too_big)
