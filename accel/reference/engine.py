"""Engine ``reference``: the definition of every operation, as an engine. It serves only where nothing else can."""

from __future__ import annotations

from accel.engine import EngineSession, Job, KeySpec, Maturity, OpenJob, Operation, Provenance, SealJob, SpanJob, Ticket
from accel.finished import FINISHED, KeylessSession, Synchronous
from accel.reference import aead, fec


class _KeySession:
    """Keys by slot, as they were given."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.keys: dict[int, KeySpec] = {}

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Keep the keys of a slot."""
        if slot < 0:
            raise ValueError(f"key slots are numbered from 0, this one is {slot}")
        self.keys[slot] = spec

    def remove_key(self, slot: int) -> None:
        """Forget the keys of a slot."""
        self.keys.pop(slot, None)

    def close(self) -> None:
        """Forget all keys."""
        self.keys.clear()


class ReferenceEngine(Synchronous):
    """All four operations by their definitions, thousands of times slower than any other engine."""

    name = "reference"
    operations = frozenset(Operation)
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def open(self, operation: Operation) -> EngineSession:
        """Return a session."""
        if operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN):
            return _KeySession(operation)
        return KeylessSession(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every row has its status on return."""
        if isinstance(job, SpanJob):
            (fec.encode if session.operation is Operation.FEC_ENCODE else fec.decode)(job)
        else:
            assert isinstance(session, _KeySession)
            if isinstance(job, SealJob):
                aead.seal(session.keys, job)
            else:
                assert isinstance(job, OpenJob)
                aead.open_(session.keys, job)
        return FINISHED
