"""Engine ``simd``: code 1 by compiled kernels, on any CPU; the widest instruction set that this one has."""

from __future__ import annotations

from accel.engine import EngineSession, Job, Maturity, Operation, Provenance, Ticket
from accel.finished import FINISHED, KeylessSession, Synchronous
from accel.job_block import JobBlocks
from accel.native import address_of_function, function
from drivers.cpu import Cpu, read_cpu

_AVX512 = frozenset({"avx2", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl"})
ISAS: dict[str, frozenset[str]] = {
    "gfni512": _AVX512 | {"gfni"},
    "gfni256": frozenset({"avx2", "bmi2", "gfni"}),
    "avx512": _AVX512,
    "avx2": frozenset({"avx2", "bmi2"}),
    "plain": frozenset(),
}
"""What each variant of the kernels needs (names of /proc/cpuinfo), the fastest first."""


def choose_isa(cpu: Cpu) -> str:
    """Return the fastest variant for a processor."""
    return next(isa for isa, needs in ISAS.items() if needs <= cpu.flags)


class _Session(KeylessSession):
    """A session that knows its kernel."""

    def __init__(self, operation: Operation, isa: str) -> None:
        super().__init__(operation)
        self.isa = isa
        self.kernel = function("fec", f"{operation.value.replace('.', '_')}_{isa}")


class SimdFec(Synchronous):
    """Encode and decode of code 1; one native call per job.

    Parameters
    ----------
    isa
        A variant of ISAS that this processor has, for comparisons; None = the fastest.
    """

    name = "simd"
    operations = frozenset({Operation.FEC_ENCODE, Operation.FEC_DECODE})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def __init__(self, isa: str | None = None) -> None:
        if isa is not None and isa not in ISAS:
            raise ValueError(f"engine simd of FEC has no variant {isa!r}; there are {', '.join(ISAS)}")
        self._isa = isa
        self._address = JobBlocks().address

    def open(self, operation: Operation) -> EngineSession:
        """Load the kernel.

        Raises
        ------
        ValueError
            When the operation is none of FEC.
        """
        if operation not in self.operations:
            raise ValueError(f"engine simd of FEC cannot do {operation.value}")
        return _Session(operation, self._isa or choose_isa(read_cpu()))

    def lend(self, session: EngineSession) -> tuple[int, int]:
        """See :class:`accel.lease.Lender`: the kernel takes the block itself."""
        assert type(session) is _Session, "this session is of another engine"
        return address_of_function(session.kernel), 0

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every span has its status on return."""
        assert type(session) is _Session, "this session is of another engine"
        session.kernel(self._address(job))
        return FINISHED
