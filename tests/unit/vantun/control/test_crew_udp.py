"""UDP sockets of programs among several workers: who serves which, and the page of local ports that they share."""

from __future__ import annotations

import socket

import pytest

from tests.unit.vantun.control.test_crew import SESSION, Scene, lane, play
from vantun.udp_messages import PORTS, CloseUdp, MoveUdp, NotePorts, OpenUdp, UdpKind


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_udp_sockets_stay_with_their_worker(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        def opened(kind: UdpKind, session: int) -> int:
            return scene.crew.open_udp(session, kind, socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

        waiting = opened(UdpKind.FORWARD, 0)
        assert scene.crew.serves(0, waiting)
        scene.crew.load.begin(0)
        number = opened(UdpKind.SOCKS5, SESSION)
        (told,) = scene.links[1].taken(OpenUdp)
        assert (told.number, told.session) == (number, scene.number(1))
        assert scene.crew.serves(1, number)
        scene.crew.move_udp(number, 0)
        scene.crew.add_lane(lane(0, 0, session=88))
        scene.crew.move_udp(number, 88)  # a session without a slice there: it waits for one that has
        scene.crew.close_udp(number)
        assert scene.links[1].told == [MoveUdp(number, 0), MoveUdp(number, 0), CloseUdp(number)]

    play(scene, act)


def test_a_listening_socket_is_served_by_the_worker_that_it_is_meant_for(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        def opened(session: int, worker: int) -> int:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            return scene.crew.open_udp(session, UdpKind.FORWARD, sock, worker=worker)

        assert scene.crew.udp_places(SESSION) == (0, 1)
        assert scene.crew.udp_places(88) == ()
        first, second = (opened(0, worker) for worker in range(2))
        assert (scene.crew.serves(0, first), scene.crew.serves(1, second)) == (True, True)
        scene.links[1].told.clear()
        scene.crew.move_udp(second, SESSION)
        again = opened(SESSION, 1)
        assert scene.links[1].taken(MoveUdp | OpenUdp) == [
            MoveUdp(second, scene.number(1)),
            OpenUdp(again, scene.number(1), UdpKind.FORWARD, "", ("", 0), 60.0, 1024, 1),
        ]

    play(scene, act)


def test_workers_share_a_page_of_ports_and_those_of_the_dead_are_free(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        assert [each for each in scene.links[1].told if isinstance(each, NotePorts)] == [NotePorts(1)]
        page = scene.crew._udp._ports
        assert page is not None
        page.array[[7, 9, PORTS - 1]] = 1, 2, 2
        scene.links[1].listener.on_worker_lost("killed")
        assert page.array.nonzero()[0].tolist() == [7]

    play(scene, act)
