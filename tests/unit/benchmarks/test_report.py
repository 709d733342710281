"""Names of results: by machine and day, and never those of another machine's or commit's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.processor import Processor


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "processor", lambda: Processor("amd", 23, 1, 2))
    monkeypatch.setattr(report, "commit", lambda: "abc")
    return tmp_path


def names(folder: Path) -> list[str]:
    """Return the names without machine and day."""
    return sorted(path.name.replace(stem(folder), "") for path in folder.iterdir())


def stem(folder: Path) -> str:
    return report.result_name("line", folder / "empty").stem


def test_a_name_is_of_generation_machine_and_day(folder: Path) -> None:
    assert report.machine_name().startswith("amd-zen1-")
    name = report.save("line", {"figure": 1}, folder).name
    assert name.startswith(f"line-{report.machine_name()}-20")
    found = json.loads((folder / name).read_text(encoding="utf-8"))
    numbers = {"family": 23, "model": 1, "stepping": 2}
    assert found["processor"] == {"name": "amd-zen1", "vendor": "amd", "amx": False, **numbers}


def test_a_repetition_takes_the_place_and_others_results_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.save("line", {"run": 1}, folder)
    report.save("line", {"run": 2}, folder)
    assert names(folder) == [".json"]
    monkeypatch.setattr(report, "commit", lambda: "def")
    report.save("line", {"run": 3}, folder)
    monkeypatch.setattr(report, "processor", lambda: Processor("amd", 23, 17, 0))  # of the same generation
    report.save("line", {"run": 4}, folder)
    monkeypatch.setattr(report, "processor", lambda: Processor("amd", 23, 1, 2))
    report.save("line", {"run": 5}, folder)
    assert names(folder) == ["-2.json", "-3.json", ".json"]
    runs = [json.loads((folder / f"{stem(folder)}{end}.json").read_text())["run"] for end in ("", "-2", "-3")]
    assert runs == [2, 5, 4]


def test_what_nobody_can_read_is_not_overwritten(folder: Path) -> None:
    first = report.result_name("line", folder)
    first.write_text("no JSON", encoding="utf-8")
    second = report.result_name("line", folder)
    assert second.stem == f"{first.stem}-2"
    second.with_suffix(".md").write_text("a table alone", encoding="utf-8")
    assert report.result_name("line", folder).stem == f"{first.stem}-3"
