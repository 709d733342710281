"""Engine ``simd``: code 1 by compiled kernels, on any CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel.engine import EngineSession, Job, Maturity, Operation, Provenance, SpanJob, Ticket
from accel.finished import FINISHED, KeylessSession, Synchronous


class SimdFec(Synchronous):
    """Encode and decode of code 1; one compiled call per batch."""

    name = "simd"
    operations = frozenset({Operation.FEC_ENCODE, Operation.FEC_DECODE})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def __init__(self) -> None:
        self._encode: Callable[..., Any] | None = None
        self._decode: Callable[..., Any] | None = None

    def open(self, operation: Operation) -> EngineSession:
        """Load the kernels (numba is imported here, not before)."""
        if operation not in self.operations:
            raise ValueError(f"engine simd of FEC cannot do {operation.value}")
        from accel.kernels import code1

        self._encode = code1.encode_spans
        self._decode = code1.decode_spans
        return KeylessSession(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every span has its status on return."""
        assert isinstance(job, SpanJob)
        kernel = self._encode if session.operation is Operation.FEC_ENCODE else self._decode
        assert kernel is not None, "a session is opened before its jobs"
        kernel(job)
        return FINISHED
