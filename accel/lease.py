"""Calling an engine's compiled code without Python: who serves lends it, for so many rows, to other compiled code.

A lease is three words: the address of ``int64 f(int64)`` (0 = nobody may be called), its context, and how many rows it
may do before whoever serves has to see one. A context of 0 is none: the function takes the address of the job's block
(:mod:`accel.job_block`). Else it takes the context, whose first word is the block's address, which is put back
afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np

from accel.engine import EngineSession
from accel.life import State
from accel.rung import Rung

FUNCTION, CONTEXT, LEFT = range(3)
"""Words of a lease."""


@runtime_checkable
class Lender(Protocol):
    """An engine of which a session is one compiled function of this process."""

    def lend(self, session: EngineSession) -> tuple[int, int]:
        """Return function and context, as above; valid for as long as the session is open."""


class Lease:
    """The words, and who may be called by them.

    Attributes
    ----------
    words
        [shape=(3,), dtype=int64] for compiled code.
    view
        The same, quicker for Python.
    """

    def __init__(self) -> None:
        self.words = np.zeros(3, np.int64)
        self.view = self.words.data

    def give(self, rungs: Iterable[Rung]) -> None:
        """Lend the one engine that serves batches of every size, if it is well and can be lent; else nobody."""
        (rung, *others) = {id(rung): rung for rung in rungs}.values()
        well = not others and rung.trusted and rung.life.state is State.SERVING
        lent = rung.engine.lend(rung.session) if well and isinstance(rung.engine, Lender) else (0, 0)
        self.view[FUNCTION], self.view[CONTEXT] = lent
