"""How much standing parity a block gets: the least that leaves no more loss than allowed, and a configured minimum."""

from __future__ import annotations

from drivers.kernel import kernel
from vantun.wire.integers import int64

MAX_STANDING = 32


@kernel
def standing_rows(k: int, loss: float, residual: float) -> int:
    """Return the least m with P(more than m of k + m shards lost) <= ``residual``, losses independent at rate ``loss``.

    At most MAX_STANDING, and 0 for a clean path. Bursts are longer than this model says: what it misses is repaired by
    rows on demand.
    """
    if loss <= 0.0005:
        return 0
    loss = min(loss, 0.5)
    for m in range(MAX_STANDING):
        n = k + m
        term = (1.0 - loss) ** n
        within = term
        for lost in range(1, m + 1):
            term *= (n - lost + 1) / lost * loss / (1.0 - loss)
            within += term
        if 1.0 - within <= residual:
            return m
    return MAX_STANDING


@kernel
def least_rows(k: int, overhead: float) -> int:
    """Return the least m with m >= ``overhead`` * k: what a block of k shards gets whatever its path loses.

    A billionth less is as good: a tenth of 30 is 3, not 4, although 0.1 is a little more than a tenth.
    """
    whole = int64(k * overhead)
    return whole + 1 if k * overhead - whole > 1e-9 * k else whole
