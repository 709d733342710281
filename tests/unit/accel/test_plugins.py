from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from accel.calibration import Shape, measure
from accel.catalogue import CATALOGUE, Kind
from accel.engine import Operation
from accel.plugins import GROUP, catalogue_with
from accel.profile import Finding
from accel.registry import Preferences, Registry
from accel.selftest import all_cases
from accel.serving import Serving
from accel.trials import copy_job, difference
from vantun.config_accel import AccelConfig
from vantun.dataplane.warm import warm
from vantun.dataplane.worker_engines import EngineRoom

SOURCE = Path(__file__).parents[2] / "plugin_example"
ENCODE, DECODE = Operation.FEC_ENCODE, Operation.FEC_DECODE


def install(folder: Path, *, points: str = "", name: str = "") -> None:
    """Put the example where an installer would, with the metadata that its pyproject.toml asks for."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    name = name or project["name"]
    shutil.copy(SOURCE / "vantun_example.py", folder)
    info = folder / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n")
    declared = "".join(f"{key} = {value}\n" for key, value in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points or declared}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.modules.pop("vantun_example", None)


@pytest.mark.parametrize("name", ["vantun-example", "tables"])
def test_it_counts_when_it_is_listed_and_not_before(name: str, folder: Path) -> None:
    install(folder)
    assert catalogue_with([]) == CATALOGUE
    assert "vantun_example" not in sys.modules
    row = catalogue_with([name])[-1]
    assert (row.name, row.kinds, row.through) == ("tables", (Kind.FEC,), "plug-in vantun-example 1.2.3")
    assert row.foreign


@pytest.mark.slow
def test_it_passes_every_gate(folder: Path) -> None:
    """A child process, the self-test, measurement, service, a whole tunnel; and the registry shows whose it is."""
    install(folder)
    registry = Registry(catalogue=catalogue_with(["tables"]), plugins=["tables"])
    found = registry.survey(Preferences(fec="tables"))
    report = found.reports[-1]
    assert report.usable == report.selected == (ENCODE, DECODE), report.reason
    assert report.through == "plug-in vantun-example 1.2.3"
    assert found.chosen[ENCODE].names == ["tables"]
    engine = registry.choose(Preferences(fec="tables"))[ENCODE].engine
    for operation in (ENCODE, DECODE):
        cells = list(measure([engine], operation, Shape(256, 4, 1), 0.0, batches=(1, 8)))
        assert [cell.engine for cell in cells] == ["tables", "tables"]
        serving = Serving(engine, engine.open(operation))
        for case in all_cases(operation):
            job = copy_job(case.job)
            serving.run(job)
            assert difference(job, case.expected) == ""
    room = EngineRoom(AccelConfig(fec="tables", plugins=("tables",), calibration="off"))
    assert room.names()["fec.decode"] == "tables"
    warm(room.open)


def test_without_being_asked_for_it_ranks_last(folder: Path) -> None:
    install(folder)
    fine = {("tables", operation): Finding(passed=True, reason="fine") for operation in (ENCODE, DECODE)}
    registry = Registry(catalogue=catalogue_with(["tables"]), attempt=lambda *_: fine)
    assert registry.choose(Preferences())[ENCODE].engine.name == "simd"


@pytest.mark.parametrize(
    ("points", "wanted", "name", "reason"),
    [
        ("", "tabels", "tabels", "no plug-in 'tabels' is installed"),
        ("other = vantun_example:Nothing\n", "other", "other", "cannot be loaded: AttributeError"),
        ("other = no_such_module:Factory\n", "other", "other", "cannot be loaded: ModuleNotFoundError"),
        ("other = vantun_example:PRODUCT\n", "other", "other", "cannot be loaded: AttributeError"),
        ("simd = vantun_example:Factory\n", "simd", "simd-plugin", "the name 'simd' is taken"),
    ],
)
def test_what_cannot_be_loaded_is_a_row(points: str, wanted: str, name: str, reason: str, folder: Path) -> None:
    install(folder, points=points)
    rows = catalogue_with([wanted])
    assert rows[:-1] == CATALOGUE
    report = Registry(catalogue=rows).survey(Preferences(fec="only: reference", aead="only: reference")).reports[-1]
    assert (report.name, report.usable) == (name, ())
    assert reason in report.reason
    if wanted == "tabels":
        assert report.next_step == "did you mean 'tables'?"


def test_another_api_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder)
    import vantun_example  # type: ignore[import-not-found]

    monkeypatch.setattr(vantun_example.Factory, "api", 2)
    assert catalogue_with(["tables"])[-1].look(Path("/")).missing == ("it speaks API 2, this is 1",)


def test_a_probe_that_raises_is_a_device_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder)
    import vantun_example

    def probe(self: object, sysroot: Path) -> None:
        raise OSError("no bus")

    monkeypatch.setattr(vantun_example.Factory, "probe", probe)
    assert catalogue_with(["tables"])[-1].look(Path("/")).missing == ("OSError: no bus",)
