"""What is said of CUDA's errors, where cupy keeps what it compiles, and that the stand-in has what cupy has."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from drivers.cuda.device import NOT_READY
from drivers.cuda.find import load_cupy, next_step
from tests.fake_cupy import CUDARuntimeError, FakeCupy

_CACHE = ("CUPY_CACHE_DIR", "CUPY_CACHE_IN_MEMORY")


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have a process that has not loaded cupy; return its cache folder."""
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name in _CACHE:
        monkeypatch.setenv(name, "")  # so that it is what it was afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    return tmp_path


def load() -> None:
    """Load cupy, which is not there; what is to be set before that is set."""
    sys.modules.pop("cupy")
    sys.meta_path.insert(0, _Nowhere)
    try:
        with pytest.raises(Exception, match="cupy cannot be imported"):
            load_cupy()
    finally:
        sys.meta_path.remove(_Nowhere)


class _Nowhere:
    """An importer that finds no cupy."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "cupy":
            raise ImportError("not here")


def test_what_it_compiles_is_in_the_cache_of_this_user(no_cupy: Path) -> None:
    load()
    assert os.environ["CUPY_CACHE_DIR"] == str(no_cupy / "vantun" / "cuda")
    assert (no_cupy / "vantun" / "cuda").is_dir()
    assert "CUPY_CACHE_IN_MEMORY" not in os.environ


def test_where_others_may_write_nothing_is_kept(no_cupy: Path) -> None:
    folder = no_cupy / "vantun" / "cuda"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    load()
    assert os.environ["CUPY_CACHE_IN_MEMORY"] == "1"
    assert os.environ["CUPY_CACHE_DIR"] == tempfile.gettempdir()


def test_who_has_chosen_a_place_keeps_it(no_cupy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", "elsewhere")
    load()
    assert os.environ["CUPY_CACHE_DIR"] == "elsewhere"


@pytest.mark.parametrize("status", [214, 700, 702, 710, 715, 716, 718, 719])
def test_every_way_to_lose_a_context_is_said_to_be_one(status: int) -> None:
    assert "context is lost; restart the worker" in next_step(CUDARuntimeError(status))


def test_switched_gpus_wait_for_their_fabric() -> None:
    assert "nvidia-fabricmanager" in next_step(CUDARuntimeError(802))
    assert "nvidia-smi" in next_step(CUDARuntimeError(12345))


def test_statuses_are_those_of_cuda() -> None:
    """The bindings that NVRTC is tested with have CUDA's own list."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings: pip install cuda-bindings")
    named = {
        "cudaErrorNotReady": NOT_READY, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35,
        "cudaErrorDevicesUnavailable": 46, "cudaErrorNoDevice": 100, "cudaErrorECCUncorrectable": 214,
        "cudaErrorIllegalAddress": 700, "cudaErrorAssert": 710, "cudaErrorIllegalInstruction": 715,
        "cudaErrorLaunchFailure": 719, "cudaErrorSystemNotReady": 802, "cudaErrorSystemDriverMismatch": 803,
    }  # fmt: skip
    assert {name: int(getattr(runtime.cudaError_t, name)) for name in named} == named


def test_cupy_has_what_its_stand_in_has() -> None:
    """Without a driver, too: cupy can be imported, and asked what it has."""
    cupy = pytest.importorskip("cupy", reason="cupy: pip install 'vantun[cuda]'")
    assert isinstance(cupy, ModuleType)
    fake = FakeCupy()
    for name in vars(fake.cuda):
        assert hasattr(cupy.cuda, name), name
    calls = [name for name in dir(fake.cuda.runtime) if not name.startswith("_")]
    assert "eventQuery" in calls
    for name in calls:
        assert hasattr(cupy.cuda.runtime, name), name
    for name in ("memcpyHostToDevice", "memcpyDeviceToHost", "memcpyDeviceToDevice"):
        assert getattr(cupy.cuda.runtime, name) == getattr(fake.cuda.runtime, name), name
    for name in ("synchronize", "begin_capture", "end_capture", "__enter__"):
        assert hasattr(cupy.cuda.Stream, name), name
    assert issubclass(cupy.cuda.driver.CUDADriverError, Exception)
    assert issubclass(cupy.cuda.compiler.CompileException, Exception)
    assert hasattr(cupy.RawModule, "get_function")
    assert hasattr(cupy.cuda.Graph, "launch")
    assert hasattr(cupy.cuda.Device, "use")
