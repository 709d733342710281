"""Where the keys of a service's clients are in the one table of the device, so that none reaches those of another.

A packet may ask for its slot or, in the other key phase, for the next one. A client's slots come in pages of 64, each
with room for one more: a copy of the first key of the client's next page. So the slot behind any of a page is of the
same client, or empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.engine import EngineSession, KeySpec
from accel.service.columns import MOST_SLOTS, PAGE, STRIDE
from drivers.errors import DriverError

MOST_PAGES = 256
"""Pages of a client."""


class KeyTable:
    """The pages of all clients in the table of one opened device."""

    def __init__(self, session: EngineSession) -> None:
        self.session = session
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        """Return the number of a page that is nobody's."""
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give_back(self, page: int) -> None:
        """Have a page without keys be nobody's."""
        self._free.append(page)


class ClientKeys:
    """The keys of one client.

    Attributes
    ----------
    pages
        [int32 (MOST_SLOTS // PAGE,)] the device's number of each of the client's pages; -1 = it has none.
    """

    def __init__(self, table: KeyTable) -> None:
        self.pages: NDArray[np.int32] = np.full(MOST_SLOTS // PAGE, -1, np.int32)
        self._table = table
        self._held: dict[int, set[int]] = {}
        self._left: list[int] = []

    def install(self, slot: int, spec: KeySpec) -> None:
        """Make a slot usable. Raises DriverError when there is no room."""
        if not 0 <= slot < MOST_SLOTS:
            raise DriverError(f"key slots are numbered from 0 to {MOST_SLOTS - 1}, this one is {slot}")
        for page, place in _homes(slot):
            self._table.session.install_key(self._page(page) * STRIDE + place, spec)
            self._held[page].add(place)

    def remove(self, slot: int) -> None:
        """Wipe a slot; unknown ones are ignored."""
        if 0 <= slot < MOST_SLOTS:
            for page, place in _homes(slot):
                if place in self._held.get(page, ()):
                    self._wipe(page, place)

    def close(self) -> None:
        """Wipe every slot; :meth:`settle` gives the pages back."""
        for page, held in list(self._held.items()):
            for place in list(held):
                self._wipe(page, place)
            if not held and page in self._held:  # a page whose first key did not come about
                self._drop(page)

    def _page(self, page: int) -> int:
        if page not in self._held:
            if len(self._held) >= MOST_PAGES:
                raise DriverError(f"a client has keys in {MOST_PAGES} pages of {PAGE} slots already; use fewer slots")
            self._held[page] = set()
            self.pages[page] = self._table.take()
        return int(self.pages[page])

    def _wipe(self, page: int, place: int) -> None:
        self._table.session.remove_key(int(self.pages[page]) * STRIDE + place)
        self._held[page].remove(place)
        if not self._held[page]:
            self._drop(page)

    def settle(self) -> None:
        """Have pages without keys be nobody's. Nothing that was laid with them may be on its way.

        Another client's keys would be in them, and what this one asked before would be done with those.
        """
        for page in self._left:
            self._table.give_back(page)
        self._left.clear()

    def _drop(self, page: int) -> None:
        self._left.append(int(self.pages[page]))
        self.pages[page] = -1
        del self._held[page]


def _homes(slot: int) -> list[tuple[int, int]]:
    """Return page and place of a slot, and of its copy where it is the first of a page."""
    homes = [(slot // PAGE, slot % PAGE)]
    if slot and slot % PAGE == 0:
        homes.append((slot // PAGE - 1, PAGE))
    return homes
