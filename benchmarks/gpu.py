"""GPU engines against their device's limits and this CPU: ``./dev bench gpu --engine cuda`` (or opencl, pocl).

In device memory, by the device's clock: GB/s of parity, repair and encryption for each shape and batch, beside what
copying, and what logic, would allow on this device in this run. From host memory: GB/s and the share of the bus, the
latency of a small batch, the cores that are freed, and from which batch on it beats the best engine of one core. Energy
where NVML gives it. It prints Markdown and writes it, the figures as JSON, and a picture to benchmarks/results/. An
emulator is measured only when it is named, is marked in every output, and reaches no target.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from accel.bench import plot
from accel.bench.compare import Candidate, candidates, measure
from accel.bench.contest import Effort, pinned
from accel.catalogue import CATALOGUE
from accel.device.cuda import cuda_engine
from accel.device.engine import DeviceEngine
from accel.device.opencl import opencl_engine
from accel.device.port import Device
from accel.engine import Operation, Provenance
from benchmarks.gpu_power import meter_of
from benchmarks.gpu_rates import measure_rates
from benchmarks.gpu_report import LATENCY_BATCH, SERVED_PACKETS, Cores, Crossing, Found, draw, markdown, targets
from benchmarks.gpu_serving import served
from benchmarks.gpu_work import ENCODE, SHAPES, WORKS, Meter, Prepared, Work, closing, end_to_end, latencies
from benchmarks.report import circumstances, result_name, save_at
from drivers.cpu import ROOT
from drivers.cuda.device import CudaProgram
from drivers.cuda.find import CudaPlace, find_devices
from drivers.errors import DriverError, UnavailableError
from drivers.opencl.device import OpenclProgram
from drivers.opencl.find import choose_device
from vantun.kernel_cache import use_kernel_cache

ENGINES = ("cuda", "opencl", "pocl")
BATCHES = (64, 256, 1024, 4096, 16_384)
_CROSSING = tuple(1 << power for power in range(13))
_COPY, _ITEMS = 256 << 20, 1 << 20
"""Bytes of a copy, and work items of the logic kernel."""


@dataclass(frozen=True)
class Subject:
    """What is measured: an engine, and how its device is opened with a program; ``place`` where it is CUDA's.

    Its limits are measured with a ``share``-th of what a GPU needs for that.
    """

    candidate: Candidate
    open_device: Callable[[str, Sequence[str]], Device]
    name: str
    place: CudaPlace | None
    share: int = 1

    @property
    def engine(self) -> DeviceEngine:
        """The engine."""
        assert isinstance(self.candidate.engine, DeviceEngine)
        return self.candidate.engine


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench gpu", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True, help="an emulator is marked as one everywhere")
    parser.add_argument("--device", type=int, default=0, metavar="INDEX", help="its number (default: %(default)s)")
    parser.add_argument("--batches", type=_sizes, default=BATCHES, metavar="LIST", help="spans or packets in a batch")
    parser.add_argument(
        "--packets", type=int, default=SERVED_PACKETS, help="of the largest batch (default: %(default)s)"
    )
    parser.add_argument("--crossing", type=_sizes, default=_CROSSING, metavar="LIST", help="batches against the CPU")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure, about (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write here, and FILE with .md and .svg; '-' = print")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.packets < 1:
        parser.error("--seconds and --packets must be positive")
    return options


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(sorted({int(part) for part in text.split(",")}))
    if sizes[0] < 1:
        raise ValueError("a batch has at least one row")
    return sizes


def subject_of(name: str, index: int) -> Subject:
    """Return what is to be measured. Raises DriverError, with the next step, when it is not there."""
    row = next(row for row in CATALOGUE if row.name == name)
    sight = row.look(ROOT)
    if not sight.present:
        raise DriverError(f"{name}: not found: {', '.join(sight.missing)}; it needs {row.needs}")
    every = frozenset(Operation)
    if name != "cuda":
        emulated = name == "pocl"
        found = choose_device(index, emulated=emulated)
        candidate = Candidate(name, opencl_engine(every, index, emulated=emulated), row.provenance, row.maturity)
        share = 100 if emulated else 1
        return Subject(candidate, lambda text, kernels: OpenclProgram(found, text, kernels), str(found), None, share)
    return cuda_subject(index)


def cuda_subject(index: int) -> Subject:
    """Return a CUDA device. Raises DriverError when it is not there."""
    places = find_devices()
    if not 0 <= index < len(places):
        raise DriverError(f"there is no CUDA device {index}; there are {len(places)}: see nvidia-smi")
    place = places[index]
    engine = cuda_engine(frozenset(Operation), index)
    candidate = Candidate(engine.name, engine, engine.provenance, engine.maturity)
    return Subject(candidate, lambda text, kernels: CudaProgram(place, text, kernels), str(place), place)


def measure_all(subject: Subject, options: argparse.Namespace) -> Found:
    """Measure everything; what fails is a reason beside the rest."""
    emulated = subject.candidate.emulated
    rates = measure_rates(subject.open_device, _COPY // subject.share, _ITEMS // subject.share)
    permute = subject.place is not None
    found = Found(subject.candidate.name, subject.name, emulated, permute, rates)
    meter, found.no_energy = meter_of(subject.place)
    for work in WORKS:
        _measure_work(found, subject, work, options, meter)
    what = f"latency of {LATENCY_BATCH} spans"
    with _reasons(found, what):
        found.alone = _latency(subject.candidate, options)
    with _reasons(found, f"{what} through the service"), served(subject.candidate, options.device, ENCODE) as behind:
        found.latency = _latency(behind, options)
    with pinned():
        for shape in SHAPES:
            _cross(found, subject, Work(ENCODE, shape), options)
    return found


def _latency(candidate: Candidate, options: argparse.Namespace) -> tuple[float, float]:
    """Return median and 99th percentile, seconds."""
    took = latencies(candidate, Work(ENCODE), LATENCY_BATCH, 2 * options.seconds)
    return took[len(took) // 2], took[int(0.99 * len(took))]


def _measure_work(found: Found, subject: Subject, work: Work, options: argparse.Namespace, meter: Meter) -> None:
    wanted = options.batches if work.is_fec else (*options.batches, options.packets)
    for batch in work.fitting(wanted):
        with _reasons(found, f"{work.name}, {batch} rows"):
            prepared = Prepared(subject.engine, work, batch)
            try:
                found.on_device.append(prepared.measure(options.seconds, meter))
            finally:
                prepared.close()
            found.end_to_end.append(end_to_end(subject.candidate, work, batch, options.seconds))
    mine = [each for each in found.end_to_end if each.work == work.name]
    if not mine:
        return
    with _reasons(found, f"{work.name}, cores freed"):
        rival, theirs = _best_of_cpu(work, mine[-1].batch, options.seconds)
        driving = mine[-1].cpu_seconds / mine[-1].seconds
        freed = theirs / mine[-1].seconds - driving
        found.cores.append(Cores(work.name, mine[-1].batch, rival.name, freed, driving))


def _best_of_cpu(work: Work, batch: int, seconds: float) -> tuple[Candidate, float]:
    """Return the engine of this CPU that takes least CPU time, and the CPU seconds of a batch."""
    rivals = [each for each in candidates(work.operation)[0] if each.provenance is Provenance.CPU]
    took = [(end_to_end(each, work, batch, seconds / len(rivals)).cpu_seconds, each) for each in rivals]
    least, best = min(took, key=lambda each: each[0])
    return best, least


def _cross(found: Found, subject: Subject, work: Work, options: argparse.Namespace) -> None:
    """Find the smallest batch from which on the device beats the best engine of one core."""
    batches = work.fitting(options.crossing)
    with _reasons(found, f"{work.name}, crossover"):
        rival, _ = _best_of_cpu(work, batches[-1], options.seconds / 2)
        name, effort = subject.candidate.name, Effort(options.seconds)
        with closing(subject.candidate) as ours:
            sides = (ours, rival)
            points = measure(work.question(*batches), (sides, {}), effort, subject=name, baseline=rival.name).points
        ratios = {point.batch: point.ratio[name].median for point in points if len(point.ratio) > 1}
        first = None
        for batch in sorted(ratios, reverse=True):
            if ratios[batch] <= 1:
                break
            first = batch
        best = max(ratios.values(), default=0.0)
        found.crossings.append(Crossing(work.name, rival.name, first, max(ratios, default=batches[-1]), best))


@contextmanager
def _reasons(found: Found, what: str) -> Iterator[None]:
    """Let what cannot be measured be a reason in the output."""
    try:
        yield
    except (DriverError, MemoryError, ValueError) as error:
        found.failed[what] = str(error) or type(error).__name__


def result_path(found: Found) -> Path:
    """Return the file for results: named by the device too, and as an emulator's where it is one."""
    plain = "-".join(re.findall(r"[a-z0-9]+", found.device.lower().split("(")[0]))
    kind = f"{found.engine}-emulator" if found.emulated else found.engine
    return result_name(f"gpu-{kind}-{plain}")


def document(found: Found, facts: dict[str, object]) -> dict[str, object]:
    """Return everything as JSON."""
    return {
        **facts,
        "what": "GPU engines against the limits of their device and one core",
        "provenance": (Provenance.EMULATOR if found.emulated else Provenance.SILICON).value,
        "targets": [asdict(target) for target in targets(found)],
        "rooflines": {work.name: asdict(found.roofline(work)) for work in WORKS},
        **asdict(found),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return 1 when the device is not there or fails at once."""
    options = options_of(arguments)
    use_kernel_cache()
    try:
        plot.check(Path("picture.svg"))
        drawn = ""
    except UnavailableError as error:
        drawn = str(error)
    facts = circumstances()
    try:
        found = measure_all(subject_of(options.engine, options.device), options)
    except DriverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text, results = markdown(found, facts), document(found, facts)
    print(text)
    if str(options.json) == "-":
        print(json.dumps(results, indent=2))
        return 0
    path = save_at(options.json or result_path(found), results, text)
    if not drawn:
        draw(found, path.with_suffix(".svg"))
    print(f"{path} written, with .md" + (f"; no picture: {drawn}" if drawn else " and .svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
