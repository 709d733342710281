"""A library that does not fit is refused with a reason and a next step; nothing about it can end a process."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest

from accel.aot.emit import emit_object, link
from accel.aot.failure import BuildError
from drivers.cpu import LEVELS, Cpu, read_cpu
from drivers.kernel_library import (
    MANIFEST,
    KernelLibrary,
    NoLibrary,
    choose_code,
    choose_level,
    digest,
    open_library,
)
from tests.unit.drivers.little_library import opened, write_library

pytestmark = pytest.mark.slow


def refused(folder: Path, root: Path) -> NoLibrary:
    found = open_library(folder, root, None)
    assert isinstance(found, NoLibrary)
    assert "vantun accel warm" in found.next_step
    assert found.entry("x") is None
    return found


def test_a_good_one_opens(tmp_path: Path) -> None:
    found = opened(write_library(tmp_path / "library", tmp_path), tmp_path)
    assert found.reason == ""
    assert len(found.entries) == 5


def test_an_entry_whose_code_is_missing(tmp_path: Path) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        for known in manifest["entries"].values():
            known["symbol"] = "elsewhere"

    found = opened(write_library(tmp_path / "library", tmp_path, rename), tmp_path)
    assert [found.entry(name) for name in found.entries] == [None] * 5


def test_none(tmp_path: Path) -> None:
    assert "there is no" in refused(tmp_path / "nothing", tmp_path).reason


def test_a_source_that_changed(tmp_path: Path) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    (tmp_path / "source.py").write_text("x = 2\n")
    assert "source.py has changed" in refused(folder, tmp_path).reason
    (tmp_path / "source.py").unlink()
    assert "source.py" in refused(folder, tmp_path).reason


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", '{"format": 1}', '{"format": 1, "machine": 3, "sources": [], "objects": {}}', "\x00"],
)
def test_a_damaged_manifest(tmp_path: Path, text: str) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    (folder / MANIFEST).write_text(text)
    refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.update(machine="pdp11"), "pdp11"),
        (lambda m: m.update(objects={}), "no code for this processor"),
        (lambda m: m.update(entries=[]), "names no kernels"),
        (lambda m: m.update(objects={level: {} for level in m["objects"]}), "cannot be read"),
        (lambda m: m.update(choices={"no_such_function": [[]]}), "failed its trial"),
        (lambda m: m.update(choices={"vantun_choose_crc": []}), "cannot be read"),
        (lambda m: m.pop("choices"), "cannot be read"),
    ],
)
def test_a_library_for_something_else(tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str) -> None:
    assert reason in refused(write_library(tmp_path / "library", tmp_path, change), tmp_path).reason


def test_a_damaged_object(tmp_path: Path) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    for path in folder.glob("*.so"):
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    assert "not what was built" in refused(folder, tmp_path).reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("ret i64 2", "failed its trial"),
        ("call void @llvm.trap()\n  unreachable", "signal 4"),
    ],
)
def test_the_trial_is_made_in_a_child(tmp_path: Path, body: str, reason: str) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    module = llvm.parse_assembly(f"declare void @llvm.trap()\ndefine i64 @vantun_self_test() {{\n  {body}\n}}")
    (tmp_path / "bad.o").write_bytes(emit_object(module, "x86-64"))
    link([tmp_path / "bad.o"], tmp_path / "bad.so")

    def change(manifest: dict[str, Any]) -> None:
        for known in manifest["objects"].values():
            shutil.copy(tmp_path / "bad.so", folder / known["file"])
            known["digest"] = digest(folder / known["file"])

    write_library(folder, tmp_path)
    manifest_of = write_library(folder, tmp_path, change)
    assert reason in refused(manifest_of, tmp_path).reason


def test_the_trial_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    marks = tmp_path / "marks"
    assert isinstance(open_library(folder, tmp_path, marks), KernelLibrary)
    assert list(marks.iterdir())

    def not_again(*_: object, **__: object) -> None:
        raise OSError("a second trial")

    monkeypatch.setattr(subprocess, "run", not_again)
    assert isinstance(open_library(folder, tmp_path, marks), KernelLibrary)
    assert "a second trial" in refused(folder, tmp_path).reason


def test_another_choice_of_code_is_tried_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    asked = []
    run = subprocess.run

    def noted(command: list[str], **words: Any) -> Any:
        asked.append(command[-2:])
        return run(command, **words)

    monkeypatch.setattr(subprocess, "run", noted)
    for mask in ("plain", "sse4_2", "avx", "avx"):  # the same object
        monkeypatch.setenv("VANTUN_CPU", f"avx,{mask}")
        assert isinstance(open_library(folder, tmp_path, tmp_path / "marks"), KernelLibrary)
    expected = [["vantun_choose_crc", "2"]]
    if "sse4_2" in read_cpu(mask="").flags:
        expected.append(["vantun_choose_crc", "1"])
    assert asked == expected


def test_marks_that_cannot_be_written_are_no_obstacle(tmp_path: Path) -> None:
    folder = write_library(tmp_path / "library", tmp_path)
    (tmp_path / "file").write_text("")
    assert isinstance(open_library(folder, tmp_path, tmp_path / "file"), KernelLibrary)


def test_a_mask_chooses_another_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTUN_CPU", "plain")
    assert opened(write_library(tmp_path / "library", tmp_path), tmp_path).level == "x86-64"


def test_levels() -> None:
    levels: dict[str, Any] = {"x86-64-v3": {}, "x86-64": {}}
    flags = LEVELS["x86-64-v4"]
    assert choose_level(levels, Cpu("x86_64", "", "", flags)) == "x86-64-v3"
    assert choose_level(levels, Cpu("x86_64", "", "", frozenset())) == "x86-64"
    assert choose_level(levels, Cpu("aarch64", "", "", flags)) == ""
    assert choose_level({"aarch64": {}}, Cpu("aarch64", "", "", flags)) == "aarch64"


def test_code_is_chosen_by_what_the_processor_has() -> None:
    choices = {"a": [["avx512f", "vaes"], ["avx2"], []], "b": [[]]}
    for flags, number in ((["avx2", "vaes", "avx512f"], 0), (["avx2", "vaes"], 1), (["avx512f"], 2)):
        assert choose_code(choices, Cpu("x86_64", "", "", frozenset(flags))) == {"a": number, "b": 0}


def test_no_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="binutils"):
        link([], tmp_path / "x.so")


def test_the_linker_fails(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_text("no object")
    with pytest.raises(BuildError, match="ld failed"):
        link([tmp_path / "x.o"], tmp_path / "x.so")
