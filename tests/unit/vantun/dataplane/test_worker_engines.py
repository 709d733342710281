from __future__ import annotations

import select
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE, Kind
from accel.device.engine import DeviceEngine
from accel.engine import KeySpec, Maturity, Operation, Provenance, SealJob, Status, Suite
from accel.fingerprint import fingerprint
from accel.profile import Cell, Finding, NoProfile, Profile, save_profile
from accel.sight import Sighting
from accel.trials import SealRow, difference, packet, seal_job
from tests.host_device import HostDevice
from tests.service import HostService, expected, spans
from vantun import accel_choice
from vantun.accel_choice import make_registry
from vantun.config_accel import AccelConfig
from vantun.dataplane.worker_engines import EngineRoom, close_engines

SPEC = KeySpec(Suite.AES_128_GCM, bytes(16), bytes(12), bytes(16))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "vantun" / "engines.json"


def measured(file: Path, **wall: float) -> None:
    """Write down what engines took for a packet, sealed or opened, in every shape."""
    cells = [
        Cell(name, operation, f"{size} B", size, batch, batch * ns, batch * ns, batch * ns, batch * size)
        for name, ns in wall.items()
        for operation in ("aead.seal", "aead.open")
        for size in (64, 576, 1350)
        for batch in (1, 64)
    ]
    tested = {name: {"aead.seal": Finding(passed=True, reason="fine")} for name in wall}
    save_profile(file, Profile(fingerprint(), time.time(), tuple(cells), tested))


def job() -> SealJob:
    return seal_job([SealRow(0, number, packet(number, 0, bytes(50))) for number in range(20)])


def test_engines_change_while_packets_flow(file: Path) -> None:
    room = EngineRoom(AccelConfig())
    engines = room.open()
    first = engines.seal.engine.name
    for slot in (0, 1):
        engines.seal.session.install_key(slot, SPEC)
    before = job()
    engines.seal.run(before)
    other = {"simd": "cryptography", "cryptography": "simd"}[first]
    measured(file, **{first: 1000.0, other: 10.0})
    room.retune(engines, clear=False)
    assert room.problem == ""
    assert room.names()["aead.seal"] == other
    assert engines.seal.engine.name == other
    after = job()
    engines.seal.run(after)
    assert (after.status == Status.DONE).all()
    assert (after.target == before.target).all()  # the same keys, the same numbers, the same packets
    assert engines.encode.engine.name == room.names()["fec.encode"]
    close_engines(engines)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
def test_a_service_that_comes_while_packets_flow_is_used_and_stays(file: Path) -> None:
    """A stand-in takes the place of the GPU behind the service."""
    del file
    room = EngineRoom(AccelConfig(fec="?cuda", calibration="off"), number=3)
    engines = room.open()
    with HostService((Operation.FEC_ENCODE, Operation.FEC_DECODE)) as service:
        room.retune(engines, clear=False, services={"cuda": ("@nobody", service.name)})
        assert room.problem == ""
        assert room.names()["fec.encode"] == "cuda"
        assert engines.encode.engine.name == "cuda"
        batch = spans(9)
        wanted = expected(batch, Operation.FEC_ENCODE)
        before = service.server.report()["jobs"]
        engines.encode.run(batch)
        assert difference(batch, wanted) == ""
        assert service.server.report()["jobs"] != before
        served = engines.encode.session.rungs[0]
        room.retune(engines, clear=False, services={})  # it is away for a moment
        assert engines.encode.session.rungs[0] is served
        close_engines(engines)


def test_rows_say_how_a_device_is_reached() -> None:
    absent = NoProfile("nothing was measured")
    direct = make_registry(AccelConfig(service="off"), absent).rows["cuda"]
    shared = make_registry(AccelConfig(), absent).rows["cuda"]
    behind = make_registry(AccelConfig(), absent, {"cuda": "@here"}).rows["cuda"]
    assert direct.through == "CUDA driver"
    assert shared.through == "CUDA driver, by a service process"
    assert (direct.foreign, shared.foreign, behind.foreign) == (True, True, False)
    assert behind.look(Path("/")).seen == ("a service at @here",)
    assert behind.make[Kind.FEC]().provenance is direct.provenance


def test_a_profile_that_holds_counts_from_the_start(file: Path) -> None:
    measured(file, cryptography=10.0, simd=1000.0)
    assert EngineRoom(AccelConfig()).names()["aead.seal"] == "cryptography"
    assert EngineRoom(AccelConfig(aead="simd")).names()["aead.seal"] == "simd"
    assert EngineRoom(AccelConfig(calibration="off")).chosen[Operation.AEAD_SEAL].reason.startswith("first by rank")


def test_a_damaged_profile_is_none(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert EngineRoom(AccelConfig()).chosen[Operation.AEAD_SEAL].reason.startswith("first by rank")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what the device of ``cuda``, which is a stand-in and was never opened before, waits for."""
    may = threading.Event()

    def open_device(text: str, kernels: Sequence[str]) -> HostDevice:
        assert may.wait(60)
        return HostDevice(text, kernels)

    fec = frozenset(Kind.FEC.operations)
    fake = DeviceEngine("cuda", fec, open_device, Provenance.SILICON, Maturity.UNTESTED)
    row = next(row for row in CATALOGUE if row.name == "cuda")
    row = replace(row, look=lambda _: Sighting(present=True, seen=("one",)), make={Kind.FEC: lambda: fake})
    rows = [row if each.name == "cuda" else each for each in CATALOGUE]
    monkeypatch.setattr(accel_choice, "catalogue_with", lambda _plugins: rows)
    monkeypatch.setattr(
        accel_choice,
        "try_in_child",
        lambda trials, *_, **__: {trial: Finding(trial[0] == "cuda", "not here") for trial in trials},
    )
    return may


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
def test_software_serves_while_a_device_without_a_service_is_opened(file: Path, gate: threading.Event) -> None:
    del file
    room = EngineRoom(AccelConfig(fec="cuda", service="off", calibration="off"))
    engines = room.open()
    watched: list[tuple[int, Callable[[], None]]] = []
    room.open_beside(engines, lambda descriptor, act: watched.append((descriptor, act)))
    room.open_beside(engines, lambda descriptor, act: watched.append((descriptor, act)))
    [(descriptor, act)] = watched
    told = engines.encode.report()
    assert (told["engine"], told["wanted"], told["fallback"]) == ("simd", "cuda", True)
    assert told["reason"] == "cuda is being opened; software serves meanwhile"
    assert not engines.seal.report()["fallback"]
    for turn in range(2):
        batch = spans(9)
        wanted = expected(batch, Operation.FEC_ENCODE)
        engines.encode.run(batch)
        assert difference(batch, wanted) == ""
        if turn == 0:
            gate.set()
            select.select([descriptor], [], [], 60)
            gate.clear()  # whoever opens it again waits for long
            act()
            told = engines.encode.report()
            assert (told["engine"], told["wanted"], told["fallback"]) == ("cuda", "cuda", False)
            assert room.opening is None
    assert watched == [(descriptor, act)]
    close_engines(engines)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
def test_a_device_is_waited_for_where_nobody_else_may_serve(file: Path, gate: threading.Event) -> None:
    del file
    gate.set()
    room = EngineRoom(AccelConfig(fec="only: cuda", service="off", calibration="off"))
    assert room.names()["fec.encode"] == "cuda"
    assert room.opening is None


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
def test_a_device_that_does_not_open_leaves_software_where_it_is(
    file: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    del file
    monkeypatch.setattr(
        accel_choice, "try_in_child", lambda trials, *_, **__: dict.fromkeys(trials, Finding(False, "no"))
    )
    room = EngineRoom(AccelConfig(fec="cuda", service="off", calibration="off"))
    engines = room.open()
    watched: list[Callable[[], None]] = []
    room.open_beside(engines, lambda _, act: watched.append(act))
    gate.set()
    watched[0]()
    told = engines.encode.report()
    assert (told["engine"], told["fallback"]) == ("simd", False)
    assert "cuda: no" in room.chosen[Operation.FEC_ENCODE].reason
    assert len(watched) == 1
    close_engines(engines)
