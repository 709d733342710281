"""Which worker each bucket of the TUN's flows goes to; :mod:`vantun.control.crew_buckets` moves them."""

from __future__ import annotations

from collections.abc import Collection

from vantun.tun_messages import BUCKETS


class Buckets:
    """The assignment of buckets to workers.

    Attributes
    ----------
    assigned
        By bucket, the worker that it goes to if that is there and may carry it.
    """

    def __init__(self, workers: int) -> None:
        self.assigned = [bucket % workers for bucket in range(BUCKETS)]

    def row(self, usable: Collection[int]) -> list[int]:
        """Return the worker of each bucket, for what only those of ``usable`` can carry."""
        targets = sorted(usable)
        return [each if each in usable else targets[bucket % len(targets)] for bucket, each in enumerate(self.assigned)]
