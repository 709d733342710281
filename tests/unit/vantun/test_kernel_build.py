"""The library of the appliance itself: what it is made of, and that workers need nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from accel.ir import MODULES
from accel.native import exported_name
from drivers.kernel_library import KernelLibrary
from vantun.kernel_build import sources
from vantun.kernel_cache import ROOT
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


def test_another_users_library_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    from vantun.kernel_cache import library_folder

    folder = library_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    found = find_library(tmp_path / "none")
    assert "can be written by other users" in found.reason
    folder.chmod(0o755)
    assert "there is no" in find_library(tmp_path / "none").reason


def test_a_shipped_library_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    (tmp_path / "library.json").write_text("{}")
    found = find_library(tmp_path)
    assert str(tmp_path) in found.reason
    assert "cache" not in found.reason
