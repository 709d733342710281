"""What a peer may cost by RESTART: an allowance of restarts, and one of frames."""

from __future__ import annotations

import numpy as np
import pytest

from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import Event, SessionRestarted, SessionViolated
from vantun.dataplane.restarts import FRAMES, FRAMES_PER_SECOND, RESTARTS, RESTARTS_PER_SECOND
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.session.pool import EVENT_RESTART
from vantun.wire.frames import RESTART, RESTARTED


class Server:
    """A server's data plane, and a peer that says what it likes."""

    def __init__(self) -> None:
        self._network = Network(DataplaneConfig())
        self._network.add_path(1, LinkProfile(rate=100e6, delay=0.01))
        self.plane = self._network.server.plane
        row = self.plane.sessions.row(SESSION)
        assert row is not None
        self.row = row
        self.now = 10.0

    @property
    def epoch(self) -> int:
        return int(self.plane.context.tables.session[self.row]["epoch"])

    def hear(self, epoch: int, flow: int, kind: int = RESTART) -> Event | None:
        event = np.array([EVENT_RESTART, self.row, 0, epoch, flow, kind], np.int64)
        return self.plane._restarts.on_event(event, self.now)


@pytest.fixture
def server() -> Server:
    return Server()


def test_restarts_beyond_the_allowance_wait(server: Server) -> None:
    for number in range(1, 100):
        server.now += 0.1
        told = server.hear(number, 2 * number)
        assert told is None or isinstance(told, SessionRestarted)
        if told is None:
            break
    assert server.epoch == number - 1
    assert RESTARTS <= server.epoch <= RESTARTS + 0.1 * number * RESTARTS_PER_SECOND + 1
    server.now += 1.0 / RESTARTS_PER_SECOND
    assert server.hear(number, 2 * number) == SessionRestarted(SESSION, number, here=False), "its repetition is heard"


def test_a_worker_that_dies_every_five_seconds_is_heard_for_ever(server: Server) -> None:
    for number in range(1, 200):
        server.now += 5.0
        assert server.hear(number, 2 * number) == SessionRestarted(SESSION, number, here=False)


@pytest.mark.parametrize("kind", [RESTART, RESTARTED])
def test_a_flood_of_frames_ends_the_session(server: Server, kind: int) -> None:
    for _ in range(int(FRAMES)):
        assert server.hear(0, 0, kind) is None
    assert server.hear(0, 0, kind) == SessionViolated(SESSION, "RESTART again and again")
    assert server.hear(0, 0, kind) is None, "it is told once"


def test_frames_at_the_rate_of_an_end_that_is_not_heard_are_taken(server: Server) -> None:
    for _ in range(20_000):
        server.now += 1.0 / FRAMES_PER_SECOND
        assert server.hear(0, 0) is None
    assert not server.plane.context.tables.session[server.row]["violation"]
