"""The benchmark of GPUs: rooflines, verdicts, and a whole run on an emulator, which is marked and reaches nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE
from accel.engine import Suite
from accel.sight import find_module
from benchmarks import gpu
from benchmarks.gpu_code import compile_for, instructions
from benchmarks.gpu_power import meter_of
from benchmarks.gpu_rates import Rates, code_instructions, code_roofline, logic_text, suite_roofline
from benchmarks.gpu_report import MISSED, NOT_MEASURED, REACHED, Crossing, Found, markdown, targets
from benchmarks.gpu_work import UNIT, WORKS, EndToEnd, OnDevice, Work
from drivers.cuda.find import CudaPlace
from drivers.errors import DriverError
from tests.fake_cupy import stand_in
from tests.pocl import works

RATES = Rates(memory=2e12, inward=50e9, outward=40e9, logic=1e13)


def found(*on_device: OnDevice, emulated: bool = False, ends: tuple[EndToEnd, ...] = ()) -> Found:
    return Found(
        "cuda", "VANTUN-FAKE GPU", emulated, permute=True, rates=RATES, on_device=list(on_device), end_to_end=list(ends)
    )


def verdicts(each: Found) -> dict[str, str]:
    return {target.measure: target.verdict for target in targets(each)}


def test_rooflines() -> None:
    assert code_instructions(4, permute=True, compiled=False) == (5 * 4 + 7) / 4
    assert code_instructions(5, permute=True, compiled=False) == (5 * 5 + 2 * 7) / 4
    assert code_instructions(4, permute=False, compiled=False) > code_instructions(4, permute=True, compiled=False)
    assert code_instructions(8, permute=True, compiled=True) == 200 / 32
    assert code_instructions(33, permute=True, compiled=True) == code_instructions(33, permute=True, compiled=False)
    roof = code_roofline(RATES, 10, 4, permute=True, compiled=False)
    assert roof.memory == pytest.approx(2e12 * 10 / 14)
    assert roof.logic == pytest.approx(1e13 / 6.75)
    assert (roof.least, roof.bound) == (roof.memory, "memory")
    assert replace(roof, logic=1e12).bound == "ALU"
    assert suite_roofline(RATES, Suite.CHACHA20_POLY1305).logic > suite_roofline(RATES, Suite.AES_128_GCM).logic


@pytest.mark.parametrize(("share", "verdict"), [(0.81, REACHED), (0.79, MISSED)])
def test_a_target_in_device_memory(share: float, verdict: str) -> None:
    least = code_roofline(RATES, 10, 4, permute=True, compiled=True).least
    best = OnDevice("encode (10,4)", 1024, 10 * UNIT * 1024, 10 * UNIT * 1024 / (share * least))
    told = verdicts(found(best, replace(best, batch=64, seconds=1.0)))
    assert told["encode (10,4), in device memory"] == verdict
    assert told["encode (32,8), in device memory"] == NOT_MEASURED


def test_the_bus_is_used_in_the_direction_that_is_used_more() -> None:
    end = EndToEnd("seal aes-128-gcm", 1000, 1000, 1.0, 0.5, inward=int(30e9), outward=int(33e9))
    assert end.of_bus(RATES) == pytest.approx(33 / 40)
    assert end.of_bus(replace(RATES, inward=0.0)) is None
    assert verdicts(found(ends=(end,)))["seal aes-128-gcm, from host memory"] == REACHED


@pytest.mark.parametrize(("p50", "verdict"), [(149e-6, REACHED), (151e-6, MISSED)])
def test_the_latency(p50: float, verdict: str) -> None:
    each = found()
    each.latency = p50, 2 * p50
    assert verdicts(each)["latency of 64 spans of (10,4), through the service"] == verdict


def test_packets_are_judged_in_the_batch_that_was_demanded() -> None:
    fast = OnDevice("seal aes-128-gcm", 1024, 1 << 40, 1.0)
    assert verdicts(found(fast))["seal aes-128-gcm, in device memory"] == NOT_MEASURED
    assert verdicts(found(replace(fast, batch=65_536)))["seal aes-128-gcm, in device memory"] == REACHED


def test_an_emulator_reaches_nothing_and_says_so_everywhere() -> None:
    fast = [OnDevice(work.name, 65_536, 1 << 60, 1.0) for work in WORKS]
    each = found(*fast, emulated=True)
    each.crossings = [Crossing("encode (10,4)", "simd", 4, 64, 2.0)]
    assert REACHED not in verdicts(each).values()
    text = markdown(each, {"cpu": "a processor"})
    assert text.splitlines()[0].endswith("(EMULATOR: says nothing of a GPU)")
    assert "An emulator" in text
    assert "4 spans" in text
    assert "-emulator-" in gpu.result_path(each).name
    assert "-emulator-" not in gpu.result_path(found()).name


def test_why_there_is_no_energy() -> None:
    assert "under CUDA only" in meter_of(None)[1]
    place = CudaPlace(0, "VANTUN-FAKE GPU", (9, 0), 1 << 30, 132, "0000:65:00")
    meter, reason = meter_of(place)
    assert reason.startswith("NVML")
    assert meter() is None


def test_a_device_that_is_not_there_is_an_error_with_a_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    if next(row for row in CATALOGUE if row.name == "cuda").look(Path("/")).present:
        pytest.skip("a GPU is here; tests/hw is for it")
    assert gpu.main(["--engine", "cuda"]) == 1
    assert "error: cuda: not found: NVIDIA GPU" in capsys.readouterr().err


def test_jobs_that_are_too_large_are_left_out() -> None:
    assert Work(WORKS[0].operation, (128, 16)).fitting((16, 1 << 20)) == (16,)


SIZES = ["--batches", "2", "--packets", "4", "--crossing", "1", "--seconds", "0.001"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
def test_every_figure_of_a_gpu_over_the_stand_in_of_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock has a millisecond for each kernel and copy."""
    stand_in(monkeypatch)
    subject = replace(gpu.cuda_subject(0), share=1 << 14)
    told = gpu.measure_all(subject, gpu.options_of(["--engine", "cuda", *SIZES]))
    # The service is a process of its own, which has no stand-in.
    assert [what for what in told.failed if not what.endswith("through the service")] == []
    assert told.alone is not None
    size = (256 << 20) >> 14
    assert told.rates.memory == pytest.approx(2 * size / 1e-3)
    assert told.rates.inward == told.rates.outward == pytest.approx(size / 1e-3)
    assert {each.work for each in told.on_device} == {work.name for work in WORKS}
    assert {each.seconds for each in told.on_device if each.work.startswith("seal")} == {3e-3}
    assert all(each.of_bus(told.rates) for each in told.end_to_end)
    assert told.no_energy.startswith("NVML")
    with pytest.raises(DriverError, match="there is no CUDA device 3"):
        gpu.cuda_subject(3)


@pytest.mark.slow
@works()
def test_a_whole_run_on_pocl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.json"
    assert gpu.main(["--engine", "pocl", *SIZES, "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert told["provenance"] == "emulator"
    assert told["failed"] == {}
    assert all(0 < told[name][0] <= told[name][1] for name in ("alone", "latency"))
    assert {each["work"] for each in told["on_device"]} == {work.name for work in WORKS}
    assert {each["work"] for each in told["end_to_end"]} == {work.name for work in WORKS}
    assert all(each["seconds"] > 0 for each in told["on_device"])
    assert told["rates"]["memory"] > 0 < told["rates"]["logic"]
    assert len(told["crossings"]) == 3
    assert "emulator" in told["targets"][0]["verdict"]
    assert "EMULATOR" in capsys.readouterr().out
    assert "EMULATOR" in file.with_suffix(".md").read_text()
    assert "EMULATOR" in file.with_suffix(".svg").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not find_module("cuda.bindings"), reason="NVRTC: pip install cuda-bindings nvidia-cuda-nvrtc")
def test_the_logic_kernel_takes_an_instruction_for_each_that_is_counted() -> None:
    """Of 128 in a turn; had NVRTC made two of one, or folded some, the rate would be another one."""
    image = compile_for("logic_rate", logic_text(), "sm_90")
    assert 128 < instructions(image, "logic_rate") < 128 + 96
