"""How much standing parity a block gets: the smallest m that leaves less loss than the policy allows."""

from __future__ import annotations

from drivers.kernel import kernel

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
