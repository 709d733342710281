"""What each worker knows about the TUN routes of each session: its own slice's, or who else has a flow for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vantun.control.slices import Slice
from vantun.tun_messages import SetTunRoutes


class CrewRoutes:
    """Remembers what workers were told, so that they are told differences only."""

    def __init__(self, workers: int) -> None:
        self._told: list[dict[int, dict[int, SetTunRoutes]]] = [{} for _ in range(workers)]
        """By worker and session, the messages by the number that the worker knows the slice by."""

    def knows(self, session: int) -> bool:
        """Tell whether a worker was told something of a session."""
        return any(session in told for told in self._told)

    def lost(self, worker: int) -> None:
        """Learn that a worker is lost: the next one knows nothing."""
        self._told[worker].clear()

    def forget(self, session: int, slices: Sequence[Slice]) -> Iterator[tuple[int, SetTunRoutes]]:
        """Forget a session that ends; yield (worker, message) for those that have no slice of it and know of it."""
        for worker, told in enumerate(self._told):
            own = {each.number for each in slices if each.worker == worker}
            for number in told.pop(session, {}):
                if number not in own:
                    yield worker, SetTunRoutes(number, (), ())

    def settle(
        self, routes: SetTunRoutes, slices: Sequence[Slice], opened: Collection[int], workers: Collection[int]
    ) -> Iterator[tuple[int, SetTunRoutes]]:
        """Yield (worker, message) for what is new to those of ``workers``.

        Parameters
        ----------
        routes
            Of the session.
        opened
            Workers that have a flow of its packets.
        """
        for worker in workers:
            told = self._told[worker].setdefault(routes.session, {})
            wanted = {each.session: each for each in _wanted(routes, slices, opened, worker)}
            for number in [number for number in told if number not in wanted]:
                del told[number]
                yield worker, SetTunRoutes(number, (), ())
            for number, message in wanted.items():
                if told.get(number) != message:
                    told[number] = message
                    yield worker, message


def _wanted(
    routes: SetTunRoutes, slices: Sequence[Slice], opened: Collection[int], worker: int
) -> Iterator[SetTunRoutes]:
    """Yield what a worker should know of a session."""
    others = sorted(set(opened) - {worker})
    away = others[worker % len(others)] if others else -1
    own = sorted(each for each in slices if each.worker == worker)
    if own:
        first = own[0].number
        yield SetTunRoutes(first, routes.addresses, routes.prefixes, away)
        for each in own[1:]:
            yield SetTunRoutes(each.number, (), (), beside=first)
    elif others:
        number = min(each for each in slices if each.worker == away).number
        yield SetTunRoutes(number, routes.addresses, routes.prefixes, away)
