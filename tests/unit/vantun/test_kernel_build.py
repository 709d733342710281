"""The library of the appliance itself: what it is made of, and that workers need nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from accel.aot.failure import BuildError
from accel.ir import MODULES
from accel.native import exported_name
from drivers.kernel_library import KernelLibrary
from drivers.linux import exchange as exchange_module
from drivers.linux.exchange import exchange
from tests.unit.drivers.little_library import write_library
from vantun import kernel_build
from vantun.kernel_build import build_library, sources
from vantun.kernel_cache import ROOT, library_folder
from vantun.kernel_place import find_library

_WORKER = """
import sys
from vantun.kernel_cache import use_kernel_cache
use_kernel_cache()
from vantun.dataplane.warm import main
main()
{more}
print(sorted(name for name in ("numba", "llvmlite") if name in sys.modules))
"""


def library() -> KernelLibrary:
    found = find_library()
    if not isinstance(found, KernelLibrary):
        pytest.skip(f"{found.reason}; {found.next_step}")
    return found


def test_what_is_compiled_in_is_a_source() -> None:
    names = {str(path.relative_to(ROOT)) for path in sources()}
    # A kernel, constants that it imports, a record's layout, a generator, the entries' own code.
    assert {
        "drivers/linux/udp_kernel.py",
        "drivers/batch.py",
        "vantun/session/layout.py",
        "accel/ir/calls.py",
        "accel/aot/trampoline.py",
        "drivers/kernel_calls.py",
    } <= names
    assert not any(name.startswith("vantun/control") for name in names)


def test_every_ir_module_is_in_the_library() -> None:
    found = library()
    assert "calls" in MODULES
    assert found.address(exported_name("calls", "run_calls"))


@pytest.mark.parametrize("cpu", ["", "avx512", "plain"])
@pytest.mark.parametrize("more", ["", "from vantun.lab.warm import warm_lab; warm_lab()"], ids=["worker", "relay"])
def test_a_rehearsal_needs_no_compiler(cpu: str, more: str) -> None:
    library()
    environment = dict(os.environ, VANTUN_KERNELS="native", VANTUN_CPU=cpu, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", _WORKER.format(more=more)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a library of this user is looked for."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setattr("vantun.kernel_place.ROOT", tmp_path)
    library_folder().mkdir(parents=True)
    return library_folder()


@pytest.mark.slow
def test_code_that_others_could_have_written_is_not_trusted(place: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    write_library(place, tmp_path)
    for path in (place, *place.iterdir(), place.parent):
        mode = path.stat().st_mode
        path.chmod(mode | 0o002)
        assert f"{path} can be written by other users" in find_library(none).reason
        path.chmod(mode)
    assert find_library(none).reason == ""
    if os.geteuid() == 0:
        os.chown(place / "library.json", 65534, 0)
        assert "belongs to another user" in find_library(none).reason


def test_nothing_is_there(place: Path, tmp_path: Path) -> None:
    found = find_library(tmp_path / "none")
    assert str(place) in found.reason
    assert "there is no" in found.reason


@pytest.mark.slow
def test_what_was_built_here_is_asked_before_what_was_shipped(place: Path, tmp_path: Path) -> None:
    shipped = write_library(tmp_path / "shipped", tmp_path)
    found = find_library(shipped)
    assert isinstance(found, KernelLibrary)
    assert found.folder == shipped
    write_library(place, tmp_path)
    found = find_library(shipped)
    assert isinstance(found, KernelLibrary)
    assert found.folder == place
    (place / "library.json").write_text("{}")
    found = find_library(shipped)
    assert isinstance(found, KernelLibrary)
    assert found.folder == shipped


@pytest.mark.slow
def test_a_shipped_library_needs_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr("vantun.kernel_place.library_folder", homeless)
    monkeypatch.setattr("vantun.kernel_place.ROOT", tmp_path)
    assert isinstance(find_library(write_library(tmp_path / "shipped", tmp_path)), KernelLibrary)
    assert "no home" in find_library(tmp_path / "none").reason


class TestBuild:
    """What happens around compiling, which is left out here."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(work: Path, module: object, level: str, others: object) -> dict[str, str]:
            (work / f"kernels-{level}-1.so").write_text("new")
            return {}

        monkeypatch.setattr(kernel_build, "rehearse", lambda: None)
        monkeypatch.setattr(kernel_build, "_compiled_crc32c", lambda: None)
        monkeypatch.setattr(kernel_build, "merge", lambda *_: (None, {}))
        monkeypatch.setattr(kernel_build, "_write_ir", lambda _: [])
        monkeypatch.setattr(kernel_build, "_write_level", write)
        monkeypatch.setattr(kernel_build, "sources", set)
        for name in ("NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT", "NUMBA_DEBUGINFO"):
            monkeypatch.delenv(name, raising=False)

    def build(self, folder: Path) -> list[str]:
        said: list[str] = []
        build_library(folder, said.append)
        return said

    def test_a_new_one_takes_the_place_of_the_old(self, tmp_path: Path) -> None:
        folder = tmp_path / "library"
        os.umask(mask := os.umask(0))
        try:
            os.umask(0)
            self.build(folder)
            (folder / "kernels-old-0.so").write_text("old")
            self.build(folder)
        finally:
            os.umask(mask)
        assert not (folder / "kernels-old-0.so").exists()
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
        assert sorted(path.name for path in tmp_path.iterdir()) == [".library.lock", "library"]

    def test_what_is_no_library_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(BuildError, match=r"thesis\.txt is in it"):
            self.build(tmp_path)
        with pytest.raises(BuildError, match="is no library"):
            self.build(tmp_path / "thesis.txt")
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    def test_remains_of_a_build_that_was_killed_are_removed(self, tmp_path: Path) -> None:
        (tmp_path / ".library.abc.building").mkdir()
        self.build(tmp_path / "library")
        assert not list(tmp_path.glob("*.building"))

    def test_two_builds_wait_for_each_other(self, tmp_path: Path) -> None:
        with (tmp_path / ".library.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            threading.Timer(0.2, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
            assert "another process is building it; waiting" in self.build(tmp_path / "library")

    def test_settings_that_would_be_compiled_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
        with pytest.raises(BuildError, match="NUMBA_BOUNDSCHECK is set"):
            self.build(tmp_path / "library")


def test_folders_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.mkdir()
        (path / path.name).write_text("")
    exchange(one, other)
    assert (one / "other").exists()
    assert (other / "one").exists()
    monkeypatch.setattr(exchange_module._C, "function", lambda *_: lambda *_: -1)
    exchange(one, other)
    assert (one / "one").exists()
    assert (other / "other").exists()


def test_a_file_that_changes_while_kernels_are_compiled_makes_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "kernels.py"
    source.write_text("ONE = 1\n")
    monkeypatch.setattr(kernel_build, "ROOT", tmp_path)
    monkeypatch.setattr(kernel_build, "sources", lambda: set(tmp_path.glob("*.py")))
    before = kernel_build.describe_sources()
    kernel_build.check_unchanged(before)
    source.write_text("ONE = 2\n")
    with pytest.raises(BuildError, match=r"kernels\.py has changed .* again"):
        kernel_build.check_unchanged(before)
    source.write_text("ONE = 1\n")
    (tmp_path / "more.py").write_text("TWO = 2\n")
    with pytest.raises(BuildError, match=r"more\.py has changed"):
        kernel_build.check_unchanged(before)
