"""The OpenCL engine on PoCL, an emulator: what it computes, and that no driver sees a binary without a voucher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accel.device.engine import DeviceEngine
from accel.device.opencl import opencl_engine
from accel.device.program import FEC, KERNELS, program
from accel.engine import Maturity, Operation, Provenance
from accel.selftest import self_test
from drivers.errors import DriverError, UnavailableError
from drivers.lanes import Batch, Launch, Room, Way
from drivers.opencl.find import OpenclPlace, choose_device, find_devices

cl = pytest.importorskip("pyopencl", reason="pyopencl: pip install 'vantun[opencl]'")

from drivers.opencl import binaries  # noqa: E402 - behind the skip
from drivers.opencl.device import CopyingProgram, OpenclProgram  # noqa: E402

ALL = frozenset(Operation)
PATIENCE = 60.0
"""Seconds for a job: PoCL compiles when it first sees one."""


@pytest.fixture
def place() -> OpenclPlace:
    try:
        return choose_device(emulated=True)
    except UnavailableError as error:
        pytest.skip(f"PoCL: {error}")


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_self_test_on_shared_memory(place: OpenclPlace, operation: Operation) -> None:
    verdict = self_test(opencl_engine(ALL, emulated=True), operation, PATIENCE)
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_self_test_with_copies(place: OpenclPlace, operation: Operation) -> None:
    engine = DeviceEngine(
        "pocl", ALL, lambda text, kernels: CopyingProgram(place, text, kernels), Provenance.EMULATOR, Maturity.UNTESTED
    )
    verdict = self_test(engine, operation, PATIENCE)
    assert verdict.passed, verdict.reason


def test_a_processor_is_an_emulator_whatever_it_calls_itself(place: OpenclPlace) -> None:
    assert place.emulator
    assert place in find_devices()
    if all(each.emulator for each in find_devices()):
        with pytest.raises(UnavailableError, match=r"no GPU or accelerator; there are only: .*Portable Computing"):
            choose_device(emulated=False)


def test_what_does_not_compile_is_told(place: OpenclPlace) -> None:
    with pytest.raises(DriverError, match="does not compile our kernels"):
        OpenclProgram(place, "this is no C", ["none"])


class Cache:
    """A folder of binaries, and how often something was compiled."""

    def __init__(self, folder: Path, place: OpenclPlace) -> None:
        self.folder = folder
        self.place = place
        self.context = cl.Context([place.handle])

    def build(self) -> object:
        return binaries.build_program(self.context, self.place, program(FEC), KERNELS[FEC], self.folder)

    def file(self, suffix: str) -> Path:
        return next(self.folder.glob(f"*{suffix}"))

    def load(self) -> bytes | str:
        base = self.file(".json").with_suffix("")
        return binaries.load_binary(base, self.place, base.name, KERNELS[FEC])


@pytest.fixture
def cache(place: OpenclPlace, tmp_path: Path) -> Cache:
    cache = Cache(tmp_path, place)
    cache.build()
    return cache


def test_a_binary_is_stored_and_used(cache: Cache) -> None:
    assert isinstance(cache.load(), bytes)
    assert cache.build() is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone", "longer"])
def test_a_damaged_binary_never_reaches_the_driver(cache: Cache, damage: str) -> None:
    path = cache.file(".bin")
    good = path.read_bytes()
    middle = len(good) // 2
    bad = {
        "cut": good[:100],
        "flip": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "empty": b"",
        "longer": good + b"x",
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bad[damage])
    assert isinstance(cache.load(), str)
    cache.build()  # from the source, and stored again
    assert cache.file(".bin").read_bytes()[:7] == good[:7]
    assert isinstance(cache.load(), bytes)


@pytest.mark.parametrize(
    "change", [{"driver": "1"}, {"device": "other"}, {"kernels": []}, {"source": ""}, {"length": -1}]
)
def test_a_manifest_for_something_else_is_refused(cache: Cache, change: dict[str, object]) -> None:
    path = cache.file(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert isinstance(cache.load(), str)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1}', "\0"])
def test_a_manifest_that_is_none(cache: Cache, text: str) -> None:
    cache.file(".json").write_text(text)
    assert isinstance(cache.load(), str)


@pytest.mark.parametrize("shared", [True, False])
def test_what_the_device_takes_is_timed(place: OpenclPlace, shared: bool) -> None:
    device = OpenclProgram(place, program(FEC), KERNELS[FEC])
    lane = device.lane(Room(source=1 << 16, target=1 << 16, work=64, scratch=64), shared=shared)
    lane.work[:8] = 0
    batch = Batch(tuple(Launch(kernel, 1) for kernel in KERNELS[FEC]), 64, 64, 8)
    lane.begin(batch)
    while not lane.done():
        pass
    assert 0 < lane.compute_seconds(batch, 3) < 60
    assert lane.copy_seconds(Way.WITHIN, 1 << 16, 3) > 0
    for way in (Way.IN, Way.OUT):
        assert (lane.copy_seconds(way, 1 << 16, 3) == 0) == shared
    lane.close()
    device.close()


def test_an_emulator_that_compiles_nothing_is_not_available(
    place: OpenclPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyopencl

    def refuse(program: object, **options: object) -> None:
        raise pyopencl.Error("clBuildProgram failed\n\nerror: unknown target CPU 'generic'\nDevice failed")

    monkeypatch.setattr(pyopencl.Program, "build", refuse)
    with pytest.raises(UnavailableError, match=r"compiles nothing \(error: unknown target CPU 'generic'\); use a proc"):
        choose_device(emulated=True)
