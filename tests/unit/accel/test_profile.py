from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import Operation
from accel.fingerprint import fingerprint
from accel.profile import OLDEST, Cell, Finding, Measured, NoProfile, Profile, load_profile, save_profile
from tests.unit.accel.machine import add_file, add_pci

HERE: dict[str, object] = {"cpu": "a", "kernel": "6.1"}
CELL = Cell("simd", "aead.seal", "1350 B", 1350, 64, 9000.0, 9100.0, 12000.0, 64 * 1350)
PROFILE = Profile(HERE, 1000.0, (CELL,), {"simd": {"aead.seal": Finding(passed=True, reason="fine")}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_profile(tmp_path / "state" / "engines.json", PROFILE)
    return tmp_path / "state" / "engines.json"


def load(file: Path, now: float = 2000.0, here: dict[str, object] | None = None) -> Profile | NoProfile:
    return load_profile(file, here or HERE, now)


def test_what_was_saved_is_loaded(file: Path) -> None:
    assert load(file) == PROFILE
    assert PROFILE.of(Operation.AEAD_SEAL, "simd") == [CELL]
    assert PROFILE.of(Operation.AEAD_OPEN) == []
    assert [path.name for path in file.parent.iterdir()] == ["engines.json"]


def test_nothing_yet(tmp_path: Path) -> None:
    assert load(tmp_path / "none.json") == NoProfile("nothing was measured yet")


def test_another_machine(file: Path) -> None:
    found = load(file, here={"cpu": "b", "kernel": "6.1", "python": "3"})
    assert found == NoProfile("it was measured with another cpu and python")
    assert not found


@pytest.mark.parametrize("now", [999.0, 1001.0 + OLDEST, float("nan")])
def test_old_or_of_the_future(now: float, file: Path) -> None:
    assert load(file, now) == NoProfile("it is not of the last 30 days")


def test_others_may_write_it(file: Path) -> None:
    file.chmod(0o662)
    assert "is no file of this user's alone" in load(file).reason  # type: ignore[union-attr]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_anothers_file(file: Path) -> None:
    os.chown(file, 12345, 12345)
    assert load(file) == PROFILE or "is no file of this user's alone" in load(file).reason  # type: ignore[union-attr]
    assert not isinstance(load(file), Profile)


def test_a_link_and_a_folder_and_a_pipe(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert isinstance(load(link), NoProfile)
    assert isinstance(load(tmp_path), NoProfile)
    os.mkfifo(tmp_path / "pipe")
    assert isinstance(load(tmp_path / "pipe"), NoProfile)


@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["format", "cells", "tested", "fingerprint", "measured_at"]), inner, max_size=5),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_damage_is_a_value(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("profile") / "engines.json"
    file.write_bytes(content)
    assert isinstance(load(file), NoProfile)


@pytest.mark.parametrize(
    ("field", "value"), [("wall_ns", -1), ("wall_ns", "x"), ("batch", 0), ("p99_ns", 1e300), ("size", None)]
)
def test_a_measurement_that_is_none(field: str, value: object, file: Path) -> None:
    document: Any = json.loads(file.read_text())
    document["cells"][0][field] = value
    file.write_text(json.dumps(document))
    assert "is damaged" in load(file).reason  # type: ignore[union-attr]


def test_what_a_batch_should_take() -> None:
    larger = Cell("simd", "aead.seal", "64 B", 64, 64, 2000.0, 2100.0, 4000.0, 64 * 64)
    measured = Measured([CELL, larger], cpu=True)
    assert measured.batch_ns(64, 1300) == 9100.0
    assert measured.batch_ns(128, 1350) == 18200.0
    assert measured.batch_ns(3, 70) == 2100.0 * 70 / 64
    assert measured.p99_ns(64, 1350) == 12000.0
    assert Measured([CELL], cpu=False).batch_ns(64, 1350) == 9000.0
    assert Measured([], cpu=True).batch_ns(64, 1350) == 0.0


def test_spans_of_units_of_one_size_are_told_apart_by_how_many_they_have() -> None:
    cells = [
        Cell("simd", "fec.encode", f"({k},{m}) 1200 B", 1200, 64, wall, wall, 2 * wall, 64 * 1200 * k)
        for k, m, wall in ((10, 4, 10_000.0), (32, 8, 60_000.0))
    ]
    measured = Measured(cells, cpu=True)
    assert measured.batch_ns(64, 1200 * 10) == 10_000.0
    assert measured.batch_ns(64, 1200 * 32) == 60_000.0
    assert measured.p99_ns(64, 1200 * 32) == 120_000.0


def test_kernels_of_devices_and_wheels_of_cupy_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU's kernels are headers, and cupy's distribution is called by the CUDA that it is for."""
    asked: list[str] = []
    monkeypatch.setattr("accel.fingerprint._version", asked.append)
    before = fingerprint(tmp_path)["engines"]
    assert {"cupy-cuda12x", "nvidia-cuda-nvrtc-cu12", "pyopencl"} <= set(asked)
    package = tmp_path / "accel"
    package.mkdir()
    monkeypatch.setattr("accel.fingerprint.__file__", str(package / "fingerprint.py"))
    empty = fingerprint(tmp_path)["engines"]
    (package / "code.h").write_text("one")
    assert len({before, empty, fingerprint(tmp_path)["engines"]}) == 3


def test_a_fingerprint_names_what_matters(tmp_path: Path) -> None:
    add_file(tmp_path, "proc/cpuinfo", "model name : Z80\nmicrocode : 0x1\nflags : avx2 sse\n\n")
    add_file(tmp_path, "proc/sys/kernel/osrelease", "6.1.0\n")
    before = fingerprint(tmp_path)
    assert (before["cpu"], before["microcode"], before["kernel"]) == ("Z80", "0x1", "6.1.0")
    add_pci(tmp_path, "0000:6b:00.0", 0x8086, 0x4940, 0x0B4000)
    add_file(tmp_path, "sys/bus/pci/devices/0000:6b:00.0/fw_version", "4.1\n")
    after = fingerprint(tmp_path)
    assert after["pci"] == ["8086:4940 4.1"]
    assert {key for key in after if after[key] != before[key]} == {"pci"}
    add_file(tmp_path, "sys/class/infiniband/mlx5_0/fw_ver", "28.1\n")
    assert fingerprint(tmp_path)["firmware"] == ["mlx5_0 28.1"]
    assert fingerprint(tmp_path, more=["numpy", "nothing"])["packages"]["nothing"] == ""  # type: ignore[index]
