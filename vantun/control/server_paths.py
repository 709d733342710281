"""Every QUIC connection of a server: found by connection id, admitted within bounds, ended together with its session.

Work for strangers is bounded before it is done: connections at all and per source address are counted, and above a
number of unfinished handshakes a client must first show, by a Retry token, that its address is its own (RFC 9000,
section 8.1.2). A handshake, and the way from right credentials to a lane, have a time limit; a visitor of the web site
may stay until he is idle.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from itertools import count

from aioquic.buffer import Buffer  # type: ignore[attr-defined] # it re-exports without saying so
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from vantun.config import ServerConfig
from vantun.control.admission import Admission, Decision, Limits, source_of
from vantun.control.answer_book import AnswerBook
from vantun.control.authentication import Authenticator
from vantun.control.certificates import load_server
from vantun.control.gate import Gate
from vantun.control.messages import encode
from vantun.control.path_events import PathEvent, SessionEnded
from vantun.control.places import Places
from vantun.control.quic import (
    CID_LENGTH,
    H3_NO_ERROR,
    GuardedConnection,
    HttpConnection,
    QuicConfiguration,
    quic_configuration,
)
from vantun.control.reset import Resets
from vantun.control.server_path import Rules, ServerPath, new_cid
from vantun.control.session_messages import SessionAnswer
from vantun.control.sessions import SessionAuthority
from vantun.control.site import make_origin
from vantun.control.tickets import IssuedTickets
from vantun.control.visitor_streams import Front

Datagram = tuple[int, bytes, tuple[str, int]]

_SMALLEST_INITIAL = 1200
_LONG = 0x80


class ServerPaths:
    """Sans-IO: datagrams and time in, datagrams and events out. Raises ResourceError for unusable certificates."""

    def __init__(
        self,
        config: ServerConfig,
        authority: SessionAuthority | None = None,
        make_cid: Callable[[int], bytes] = new_cid,
        limits: Limits | None = None,
        places: Places | None = None,
    ) -> None:
        self._configuration = _handshakes(config)
        self.admission = Admission(limits)
        self.front = Front(Gate(Authenticator(config.auth)), make_origin(config.masquerade))
        self._authority = authority or SessionAuthority(per_user=config.sessions_per_user)
        self._make_cid = make_cid
        self._answers = AnswerBook()
        self._rules = Rules(
            config=config,
            front=self.front,
            authority=self._authority,
            answers=self._answers,
            new_cid=self._new_data_cid,
            awaken=self._awaken,
            resets=Resets.from_private_key(config.tls.key),
            places=places or Places(),
        )
        self._masquerade = config.masquerade
        self._by_cid: dict[bytes, ServerPath] = {}
        self._paths: dict[ServerPath, list[bytes]] = {}
        self._lanes: dict[tuple[int, int], ServerPath] = {}
        self._greeting: set[ServerPath] = set()
        self._retry = QuicRetryTokenHandler()
        self._tickets = IssuedTickets()
        self._events: list[PathEvent] = []
        self._outbox: list[Datagram] = []
        self._awake: set[ServerPath] = set()
        self._alarms: list[tuple[float, int, ServerPath]] = []
        self._alarm: dict[ServerPath, float] = {}
        self._serial = count()

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def half_open(self) -> int:
        """Connections whose handshake is not complete."""
        return len(self._greeting)

    def _new_data_cid(self, worker: int = 0) -> bytes:
        """Return a connection id for data packets of a worker, that no QUIC connection has."""
        while (cid := self._make_cid(worker)) in self._by_cid:
            continue
        return cid

    def receive(self, data: bytes, socket: int, peer: tuple[str, int], now: float) -> None:
        """Take a datagram that is no data packet."""
        if len(data) < 1 + CID_LENGTH:
            return
        is_long = bool(data[0] & _LONG)
        # most strangers are short: data packets of lanes that are gone
        path = self._long(data, socket, peer, now) if is_long else self._by_cid.get(data[1 : 1 + CID_LENGTH])
        if path is None:
            if not is_long:
                self._reset(data, socket, peer, now)
            return
        path.http.receive(data, peer, now)
        self._handle(path, now)

    def _reset(self, data: bytes, socket: int, peer: tuple[str, int], now: float) -> None:
        """Tell the sender of a packet for a lane of a former life that it is no more."""
        cid = data[1 : 1 + CID_LENGTH]
        if any(lane.receive_cid == cid for path in self._paths for lane in path.lanes):
            return  # the worker has just been replaced, or the lane has just begun: a reset would end it
        answer = self._rules.resets.answer(data, now)
        if answer is not None:
            self._outbox.append((socket, answer, peer))

    def _long(self, data: bytes, socket: int, peer: tuple[str, int], now: float) -> ServerPath | None:
        """Return the connection of a long-header packet, a new one for an acceptable Initial."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_LENGTH)
        except ValueError:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return None
        known = self._by_cid.get(header.destination_cid)
        if known is not None:
            return known
        if len(data) < _SMALLEST_INITIAL:
            return None
        if header.version not in self._configuration.supported_versions:
            negotiation = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=self._configuration.supported_versions,
            )
            self._outbox.append((socket, negotiation, peer))
            return None
        if header.packet_type != QuicPacketType.INITIAL:
            return None
        return self._admit(header, socket, peer, now)

    def _admit(self, header: QuicHeader, socket: int, peer: tuple[str, int], now: float) -> ServerPath | None:
        source = source_of(peer[0])
        original, retry_source = header.destination_cid, None
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=peer, destination_cid=header.destination_cid, token=header.token, now=now
                )
            except ValueError:
                self.admission.bad_token()
                return None
            retry_source = header.destination_cid
        proven = retry_source is not None
        decision = self.admission.judge(source, now, proven=proven)
        if decision is Decision.RETRY:
            self._send_retry(header, socket, peer, now)
        if decision is not Decision.ADMIT:
            return None
        quic = GuardedConnection(
            configuration=self._configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retry_source,
            session_ticket_fetcher=self._tickets.redeem,
            session_ticket_handler=self._tickets.issue,
        )
        path = ServerPath(self._rules, HttpConnection(quic), socket, source, now)
        self._paths[path] = [header.destination_cid]
        self._greeting.add(path)
        path.proven = proven
        self.admission.begin(source, proven=proven)
        self._by_cid[header.destination_cid] = path
        return path

    def _send_retry(self, header: QuicHeader, socket: int, peer: tuple[str, int], now: float) -> None:
        source = os.urandom(CID_LENGTH)
        token = self._retry.create_token(
            address=peer,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        packet = encode_quic_retry(
            version=header.version or 0,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._outbox.append((socket, packet, peer))

    def _handle(self, path: ServerPath, now: float) -> None:
        """See to the events of a connection and to the connection ids that it may be called by."""
        self._events += path.handle(now)
        self._awake.add(path)
        if path.ended:
            self._remove(path)
            return
        if path.handshaken and path in self._greeting:
            self._greeting.discard(path)
            self.admission.complete(path.source, proven=path.proven)
        self._note_lane(path)
        names = self._paths[path]
        original = names[0]
        current = [original, *path.http.cids]
        if current != names:
            for cid in set(names) - set(current):
                self._by_cid.pop(cid, None)
            for cid in current:
                self._by_cid[cid] = path
            self._paths[path] = current

    def _note_lane(self, path: ServerPath) -> None:
        """Have a path found by its lane, once it has one."""
        if path.lane is not None:
            self._lanes[path.lane.session, path.lane.path] = path

    def _remove(self, path: ServerPath) -> None:
        if path not in self._paths:
            return
        for cid in self._paths.pop(path):
            self._by_cid.pop(cid, None)
        self.admission.end(path.source, proven=path.proven, complete=path not in self._greeting)
        if path.lane is not None:
            self._lanes.pop((path.lane.session, path.lane.path), None)
        path.leave()
        self._awake.discard(path)
        self._greeting.discard(path)
        self._alarm.pop(path, None)

    def transmit(self, now: float) -> list[Datagram]:
        """Return everything that is to be sent now."""
        sent, self._outbox = self._outbox, []
        for path in list(self._awake):
            sent += path.transmit(now)
            self._events += path.handle(now)
            if path.ended:
                self._remove(path)
            else:
                self._note_lane(path)
                self._set_alarm(path)
        self._awake.clear()
        return sent

    def _set_alarm(self, path: ServerPath) -> None:
        """See to it that a path's timers run in time; too early is harmless, so a later time needs no new entry."""
        due, before = path.timer(), self._alarm.get(path)
        if due is not None and (before is None or due < before):
            self._alarm[path] = due
            heapq.heappush(self._alarms, (due, next(self._serial), path))

    def _next_alarm(self) -> float | None:
        while self._alarms and self._alarm.get(self._alarms[0][2]) != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def timer(self) -> float | None:
        """Return when :meth:`run_timers` is due."""
        times = (self._next_alarm(), self._authority.next_expiry())
        return min((time for time in times if time is not None), default=None)

    def run_timers(self, now: float) -> None:
        """Do what is due."""
        while (due := self._next_alarm()) is not None and due <= now:
            path = heapq.heappop(self._alarms)[2]
            del self._alarm[path]
            path.run_timers(now)
            self._handle(path, now)
        for session in self._authority.expire(now):
            self._gone(session)
            self._events.append(SessionEnded(session))

    def _awaken(self, path: ServerPath) -> None:
        """See to a connection with the next :meth:`transmit`."""
        if path in self._paths:
            self._awake.add(path)

    def reload(self, config: ServerConfig) -> None:
        """Use certificate, users and site of ``config`` from now on; raises ResourceError, and has changed nothing."""
        settings, authenticator = _handshakes(config), Authenticator(config.auth)
        origin = self.front.origin if config.masquerade == self._masquerade else make_origin(config.masquerade)
        self._configuration, self._masquerade = settings, config.masquerade
        self.front.gate.authenticator, self.front.origin = authenticator, origin

    def end_users(self, users: dict[str, str], now: float) -> list[int]:
        """End the connections of users with a goodbye that says why; return the sessions that have ended."""
        ended: set[int] = set()
        for path in [path for path in self._paths if path.user in users]:
            if path.lane is not None:
                ended.add(path.lane.session)
            self._close(path, 0, users[path.user or ""], now)
        for session in ended:
            self._authority.end(session)
            self._gone(session)
        return sorted(ended)

    def _gone(self, session: int) -> None:
        self._answers.forget(session)
        self._rules.places.forget(session)

    def take_events(self) -> list[PathEvent]:
        """Return what has happened since the last call."""
        events, self._events = self._events, []
        return events

    def touch(self, session: int, path: int, now: float) -> None:
        """Keep the connection of a path whose lane is alive; without, it ends after its idle time-out."""
        entry = self._lanes.get((session, path))
        if entry is not None:
            entry.http.ping(now)
            self._awake.add(entry)

    def send(self, session: int, number: int, message: SessionAnswer) -> None:
        """Answer request ``number`` of a session, on the paths that brought it; the client asks again by another one.

        A request is answered once, and after that by itself whenever it is repeated.
        """
        data = encode(number, message)
        where = self._answers.answer(session, number, data)
        for path in self._of(session):
            if path.lane is not None and path.lane.path in where:
                path.say(data)
                self._awake.add(path)

    def close_session(self, session: int, code: int, reason: str, now: float) -> None:
        """End a session and its connections with a goodbye; no PathDown follows."""
        self._authority.end(session)
        self._gone(session)
        for path in self._of(session):
            self._close(path, code, reason, now)

    def close(self, now: float) -> None:
        """End every connection."""
        for path in list(self._paths):
            self._close(path, 0, "the server is shutting down", now)

    def _close(self, path: ServerPath, code: int, reason: str, now: float) -> None:
        # first the goodbye, then the close: aioquic drops streams once it is closing; twice, since nobody repeats them
        path.goodbye(code, reason)
        last = path.transmit(now)
        path.http.close(H3_NO_ERROR, reason)
        last += path.transmit(now)
        self._outbox += [*last, *last]
        self._remove(path)

    def _of(self, session: int) -> list[ServerPath]:
        return [path for path in self._paths if path.lane is not None and path.lane.session == session]


def _handshakes(config: ServerConfig) -> QuicConfiguration:
    """Return what new handshakes are done with."""
    settings = quic_configuration(is_client=False)
    load_server(settings, config.tls)
    return settings
