"""The data workers of an appliance, as one: what :class:`WorkerLink` is to a worker, this is to all of them.

A session is split into slices, which to a worker are sessions (:mod:`vantun.control.slices`). Here, and nowhere else, a
command about a session becomes one about its slices, and what a worker says of a slice becomes news of the session.
Handles of flows, and numbers of a worker's questions, carry the worker above the bits that it uses itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from drivers.linux.affinity import Place
from vantun.control.crew_limits import CrewLimits
from vantun.control.crew_load import CrewLoad
from vantun.control.crew_member import CrewListener, Member
from vantun.control.crew_memory import CrewMemory
from vantun.control.crew_mesh import Mesh
from vantun.control.crew_numbers import SHIFT, numbered, own, question
from vantun.control.crew_snapshot import gather
from vantun.control.crew_tunnel import CrewTunnel
from vantun.control.crew_udp import CrewUdp
from vantun.control.recruits import Recruits
from vantun.control.slices import Slice, Slices
from vantun.control.tun_link import Carried, TunLink
from vantun.control.udp_link import UdpLink
from vantun.control.user_link import UserLink
from vantun.control.worker_count import Pins
from vantun.control.worker_link import WorkerLink
from vantun.dataplane.events import FlowClosed, FlowOpened, LaneMoved
from vantun.dataplane.ports import RefusalCode
from vantun.lanes import LaneSpec
from vantun.tun_messages import AddTun, AttachTun, OpenTun, SetTunRoutes, TunFlow
from vantun.udp_messages import (
    AskUdp,
    AttachUdp,
    CloseUdp,
    MoveUdp,
    OpenUdp,
    ResolveUdp,
    UdpClosed,
    UdpTarget,
    UdpVerdict,
)
from vantun.worker_messages import Command, StreamReply, UserRate

if TYPE_CHECKING:
    from vantun.dataplane.events import Event


class Crew(UdpLink, TunLink, UserLink):
    """All workers. Made by :meth:`start`.

    Attributes
    ----------
    listener
        Who is told.
    load
        What each worker has to do.
    """

    def __init__(self, recruits: Recruits, listener: CrewListener, count: int) -> None:
        self.listener = listener
        self.load = CrewLoad(count)
        self._recruits = recruits
        self._links = [WorkerLink(recruits, Member(self, index), alone=False) for index in range(count)]
        self._slices = Slices()
        self._memory = CrewMemory()
        self._tunnel = CrewTunnel(self._links, self._slices, self._memory)
        self._lives = [0] * count
        self._mesh = Mesh()
        self._limits = CrewLimits(count)
        self._last: dict[int, dict[str, object]] = {}
        self._pins = Pins(())
        self._udp = CrewUdp(self._links, self._slices, self._least)

    @classmethod
    async def start(cls, recruits: Recruits, listener: CrewListener, count: int = 1) -> Crew:
        """Start the workers and wait until all of them serve. ``recruits`` is the crew's from now on.

        Raises
        ------
        WorkerError
            When one cannot be started; says why. None is left then.
        """
        crew = cls(recruits, listener, count)
        try:
            await crew._links[0].begin()  # what it compiles, the others load
            await asyncio.gather(*(link.begin() for link in crew._links[1:]))
            crew._mesh.make(count)
            crew._udp.make()
            for worker in range(count):
                crew._join(worker)
        except BaseException:
            await crew.close()
            raise
        return crew

    @property
    def engines(self) -> dict[str, str]:
        """Operation -> name of the engine that serves it."""
        return self._recruits.engines

    @property
    def serving(self) -> bool:
        """Whether every worker is there."""
        return all(link.serving for link in self._links)

    @property
    def deaths(self) -> int:
        """Workers that were lost so far."""
        return sum(link.deaths for link in self._links)

    # --- lives

    async def replace(self, worker: int = 0) -> None:
        """Put another worker in the place of one that was lost. Raises WorkerError; try again later."""
        link = self._links[worker]
        await link.replace()
        self._pins.settle(worker, link.pid)
        if len(self._links) == 1:
            return  # its owner tells it everything again
        self._join(worker)
        for message in self._memory.recall():
            link._post(message)
        link.limit_users(self._limits.of(worker))
        self._tunnel.returned(worker)

    def pin(self, places: Sequence[Place]) -> None:
        """Have worker i, and whoever takes its place, run at place i."""
        self._pins = Pins(places)
        for worker, link in enumerate(self._links):
            self._pins.settle(worker, link.pid)

    def _join(self, worker: int) -> None:
        for message, sock in self._mesh.place_of(worker):
            self._links[worker]._post(message, sock)
        self._udp.join(worker)

    def keep_spare(self) -> None:
        """Have one more worker wait for the death of any; a failure shows when it is needed."""
        self._links[0].keep_spare()

    @property
    def spare(self) -> str:
        """What there is for the case of a death: "none", "starting" or "ready"."""
        return self._recruits.spare

    def is_of(self, worker: int, handle: int) -> bool:
        """Tell whether a flow, by its handle, is of a worker."""
        return handle >> SHIFT == worker

    def serves(self, worker: int, number: int) -> bool:
        """Tell whether a UDP socket, by its number, is of a worker."""
        return self._udp.serves(worker, number)

    def udp_places(self, session: int) -> tuple[int, ...]:
        """Return the workers that have a slice of a session, in the order of the slices: see ``worker`` of open_udp."""
        return self._udp.places(session)

    def lost(self, worker: int, reason: str) -> None:
        """Learn that a worker is lost."""
        self._lives[worker] += 1
        self.load.forget(worker)
        self._limits.forget(worker)
        self._last.pop(worker, None)
        self._tunnel.lost(worker)
        self._udp.lost(worker)
        self.listener.on_worker_lost(reason, worker)

    async def close(self) -> None:
        """Let the workers send what is queued, and wait for their ends. May be called twice."""
        self._tunnel.close()
        await self._recruits.dismiss()
        await asyncio.gather(*(link.close() for link in self._links))
        await self._recruits.close()
        self._mesh.close()
        self._udp.close()

    # --- sockets and lanes

    def add_sockets(self, number: int, sockets: Sequence[socket.socket]) -> None:
        """Hand worker i socket i of a group; they stay the caller's, who must not receive on them any more.

        Raises ResourceError when this process has no descriptor left.
        """
        for link, sock in zip(self._links, sockets, strict=True):
            link.add_socket(number, sock)

    def remove_socket(self, number: int) -> None:
        """Have the workers close their copies of a group; unknown numbers are ignored."""
        for link in self._links:
            link.remove_socket(number)

    def send_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """Send a datagram of the control connection by the socket of the data; one that does not leave is counted."""
        self._links[0].send_datagram(number, data, peer)

    def add_lane(self, spec: LaneSpec) -> None:
        """Begin to speak on a lane, by the worker that byte 0 of its receive CID names. May be answered LaneRefused."""
        known = self._slices.add(spec.session, spec.slice, spec.receive_cid[0] % len(self._links))
        self._links[known.worker].add_lane(replace(spec, session=known.number, share=self._slices.shares.of(spec)))
        if spec.session in self._memory.routes:
            self._tunnel.settle(spec.session)

    def close_lane(self, session: int, path: int) -> None:
        """Stop using a path; what it carried goes by the others."""
        for each in self._slices.leave(session, path):
            self._links[each.worker].close_lane(each.number, path)

    def end_session(self, session: int) -> None:
        """Reset every flow of a session and forget it."""
        self._memory.forget(session)
        self._tunnel.forget(session)
        for each in self._slices.forget(session):
            self._links[each.worker].end_session(each.number)

    def retune(self, *, clear: bool = False) -> None:
        """Have the workers serve by the profile of now; ``clear`` = also test anew the engines that were wrong."""
        for link in self._links:
            link.retune(clear=clear)

    # --- flows

    def _least(self, session: int) -> Slice:
        """Return the slice of a session whose worker has least to do; those without a worker wait for it."""
        slices = self._slices.of(session) or (Slice(0, 0, session),)
        serving = {each.worker: each for each in slices if self._links[each.worker].serving}
        if not serving:
            return slices[0]
        chosen = serving[self.load.least(serving)]
        self.load.begin(chosen.worker)
        return chosen

    def open_flow(self, session: int, target: str, sock: socket.socket, reply: StreamReply, first: bytes = b"") -> None:
        """Open a flow to ``target`` in the slice that has least to do; see WorkerLink."""
        chosen = self._least(session)
        self._links[chosen.worker].open_flow(chosen.number, target, sock, reply, first)

    def attach_flow(self, handle: int, sock: socket.socket) -> None:
        """Answer FlowOpened with a connected TCP socket, which is the worker's from now on and closed here."""
        self._by(handle).attach_flow(own(handle), sock)

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        """Answer FlowOpened with a refusal."""
        self._by(handle).refuse_flow(own(handle), code)

    def _by(self, handle: int) -> WorkerLink:
        return self._links[handle >> SHIFT]

    def _post(self, message: Command, sock: Carried | None = None) -> None:
        """Send a command of the parts about UDP, TUN and users to those whom it is for."""
        match message:
            case OpenUdp():
                self._udp.open(message, sock)
            case MoveUdp(number) | CloseUdp(number):
                self._udp.tell(number, message)
            case AttachUdp(handle) | UdpTarget(handle) | AttachTun(handle):
                self._by(handle)._post(replace(message, handle=own(handle)), sock)
            case UdpVerdict(number):
                worker, life, theirs = question(number)
                if life == self._lives[worker]:
                    self._links[worker]._post(replace(message, number=theirs))
            case SetTunRoutes(session):
                self._memory.note(message)
                self._tunnel.route(session)
            case OpenTun(session):
                self._memory.note(message)
                self._tunnel.open(session)
            case _:
                self._memory.note(message)
                for link in self._links:
                    link._post(message)

    # --- packets

    def add_tun(
        self,
        number: int,
        descriptors: Sequence[int],
        *,
        client: bool,
        client_to_client: bool = False,
        offloads: int = 0,
    ) -> None:
        """Have worker i read and write queue i of a TUN device; workers without one carry no packets.

        The descriptors stay the caller's, who must leave them alone. Raises ResourceError when none is left here.
        """
        self._tunnel.add(AddTun(number, client, client_to_client, offloads), descriptors)

    def attach_tun(self, handle: int) -> None:
        """Server: answer FlowOpened of ``tun:``; a worker without a queue refuses it. Answered by TunFlow."""
        if self._tunnel.tun.has(handle >> SHIFT):
            self._by(handle).attach_tun(own(handle))
        else:
            self.refuse_flow(handle, RefusalCode.NOT_ALLOWED)

    # --- what workers say

    def heard(self, worker: int, event: Event) -> None:
        """Tell the owner what a worker says, in terms of sessions."""
        if isinstance(event, LaneMoved):
            self._links[worker].move_lane(event.session, event.path, event.peer)
        if isinstance(event, FlowOpened | FlowClosed | ResolveUdp):
            event = replace(event, handle=event.handle | worker << SHIFT)
        elif isinstance(event, AskUdp):
            event = replace(event, number=numbered(worker, self._lives[worker], event.number))
        elif isinstance(event, UdpClosed):
            self._udp.closed(event.number)
        if isinstance(event, TunFlow) and not self._tunnel.flow(worker, event):
            return
        self.listener.on_event(self._named(event))

    def _named(self, event: Event) -> Event:
        """Return news of a slice as news of its session."""
        number = getattr(event, "session", None)
        if not isinstance(number, int) or (session := self._slices.session_of(number)) == number:
            return event
        changed: Any = event
        return cast("Event", replace(changed, session=session))

    # --- snapshots

    async def snapshot(self) -> dict[str, object]:
        """Return the counters and states of all workers as one snapshot; see WorkerLink and :mod:`.crew_snapshot`.

        Raises
        ------
        WorkerError
            When none of them answers.
        """
        taken = await gather(self._links, self._look, self._slices, self._last)
        if len(self._links) > 1:
            self._limits.tell(self._links)
            tun = taken.get("tun")
            taken["tun"] = {**(tun if isinstance(tun, dict) else {}), **self._tunnel.report()}
            known = taken.get("fallbacks")
            taken["fallbacks"] = [*(known if isinstance(known, list) else []), *self._tunnel.fallbacks()]
        return taken

    def _look(self, worker: int, snapshot: Mapping[str, object]) -> None:
        self.load.look(worker, snapshot)
        self._limits.look(worker, snapshot)

    def limit_users(self, rates: Iterable[UserRate]) -> None:
        """Limit what is sent to and received from users; several workers share it (:mod:`.crew_limits`)."""
        self._limits.use(rates)
        self._limits.tell(self._links, anew=True)
