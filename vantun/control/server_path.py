"""One QUIC connection at the server: a visitor of the web site, until he shows credentials and asks for a tunnel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vantun.config import ServerConfig
from vantun.control.answer_book import AnswerBook
from vantun.control.key_exchange import LaneBinding, ServerAnswer, answer
from vantun.control.message_fields import readable
from vantun.control.messages import (
    MAX_REASON,
    Goodbye,
    Hello,
    MessageReader,
    Refuse,
    RefuseCode,
    Welcome,
    encode,
)
from vantun.control.path_events import MessageReceived, PathDown, PathEvent, PathUp
from vantun.control.places import Places
from vantun.control.quic import (
    H3_NO_ERROR,
    ConnectionTerminated,
    DataReceived,
    HandshakeCompleted,
    HeadersReceived,
    HttpConnection,
    StopSendingReceived,
    StreamReset,
    reason_of,
)
from vantun.control.reset import Resets
from vantun.control.session_messages import SessionRequest
from vantun.control.sessions import RefusalError, SessionAuthority
from vantun.control.visitor_streams import Front, VisitorStreams
from vantun.errors import ProtocolError
from vantun.lanes import CID_LENGTH, LaneSpec

WORKER = 0
MTU = 1200
MESSAGE_ERROR = 0x10E
"""H3_MESSAGE_ERROR (RFC 9114, section 8.1)."""
HANDSHAKE_TIME = 10.0
"""Seconds for a QUIC handshake; then it is forgotten without a word."""
TUNNEL_TIME = 10.0
"""Seconds from right credentials to a lane."""
_SURE_TIME = 1.0
"""Seconds that packets go twice after a Welcome, so that it arrives."""
_MAX_ANSWERS = 4
"""Hellos on one connection: a lane has one, and what is repeated is answered from memory."""


@dataclass(frozen=True)
class Rules:
    """What all connections of a server share."""

    config: ServerConfig
    front: Front
    authority: SessionAuthority
    answers: AnswerBook
    new_cid: Callable[[int], bytes]
    """Makes connection ids for data packets of a worker, that no QUIC connection has."""
    awaken: Callable[[ServerPath], None]
    """Called when a connection has something to send out of turn."""
    resets: Resets
    places: Places = field(default_factory=Places)
    """Which worker has which slice."""


def new_cid(worker: int = WORKER) -> bytes:
    """Return a connection id for data packets; byte 0 names the worker."""
    return bytes([worker]) + secrets.token_bytes(CID_LENGTH - 1)


class ServerPath:
    """Drives one connection.

    Attributes
    ----------
    http
        The connection.
    lane
        The lane of slice 0, once there is one.
    lanes
        Those of all slices.
    handshaken, ended
        Whether the QUIC handshake is complete; whether the connection is over.
    source
        What it is counted under, see :mod:`vantun.control.admission`.
    proven
        Whether its address was proven before the handshake.
    user
        Whose credentials it has shown.
    """

    def __init__(self, rules: Rules, http: HttpConnection, socket: int, source: str, now: float) -> None:
        self.http = http
        self.lane: LaneSpec | None = None
        self.lanes: tuple[LaneSpec, ...] = ()
        self.handshaken = False
        self.ended = False
        self.socket = socket
        self.source = source
        self.proven = False
        self.user: str | None = None
        self._deadline: float | None = now + HANDSHAKE_TIME
        self._twice_until = now
        self._rules = rules
        self._stream = -1
        self._reader = MessageReader()
        self._answers: dict[int, bytes] = {}
        self._visitors = VisitorStreams(rules.front, http, source, lambda: rules.awaken(self))

    def handle(self, now: float) -> list[PathEvent]:
        """Act on what has happened on the connection; return what the owner should know."""
        found: list[PathEvent] = []
        for event in self.http.events():
            match event:
                case HandshakeCompleted():
                    self.handshaken = True
                    if self._stream < 0:  # else a request came early (0-RTT), and has its own time limit
                        self._deadline = None
                case HeadersReceived() if event.stream_id != self._stream:
                    found += self._visitors.request(event, now)
                case DataReceived() if event.stream_id == self._stream:
                    found += self._data(event.data, now)
                    if event.stream_ended:
                        self.http.close()
                case DataReceived():
                    self._visitors.receive(event)
                case StreamReset() | StopSendingReceived() if event.stream_id == self._stream:
                    self.http.close()
                case StreamReset() | StopSendingReceived():
                    self._visitors.lose(event.stream_id)
                case ConnectionTerminated():
                    found += self._end(reason_of(event), now)
            found += self._accept(now)
        self._visitors.refresh()
        return [*found, *self._accept(now)]

    def transmit(self, now: float) -> list[tuple[int, bytes, tuple[str, int]]]:
        """Return what is to be sent now; set-up packets go twice, since the path may be lossy.

        That begins with right credentials: nobody else can make the server show it.
        """
        self._visitors.judge(now)
        sure = now < self._twice_until
        if sure or not self.handshaken:
            # a stranger who is silent sees nothing of it: three times what he has sent is spent before
            self.http.hasten(1 if sure else 2)
        sent = [(self.socket, data, peer) for data, peer in self.http.transmit(now)]
        return [*sent, *sent] if sure else sent

    def timer(self) -> float | None:
        """Return when :meth:`run_timers` is due."""
        due = self.http.timer()
        if due is None:  # it has ended
            return None
        return min(time for time in (due, self._deadline, self._visitors.timer()) if time is not None)

    def run_timers(self, now: float) -> None:
        """Do what is due."""
        self.http.run_timers(now)
        self._visitors.judge(now)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self.ended = not self.handshaken
            if self.handshaken:
                self.http.close(H3_NO_ERROR, f"no lane within {TUNNEL_TIME:.0f} s")

    def leave(self) -> None:
        """Give up what visitors on this connection still wait for."""
        self._visitors.lose_all()

    def goodbye(self, code: int, reason: str) -> None:
        """Say goodbye on the control stream."""
        if self._stream >= 0:
            self.http.send(self._stream, encode(0, Goodbye(code, readable(reason, MAX_REASON))))

    def _accept(self, now: float) -> list[PathEvent]:
        """Begin the control stream, if credentials were found right since the last call."""
        accepted, self._visitors.accepted = self._visitors.accepted, None
        if accepted is None or self.ended:
            return []
        self.user = accepted.user
        self._stream = accepted.stream
        self._deadline = self._twice_until = now + TUNNEL_TIME
        self.http.answer(accepted.stream, [(b":status", b"200")], None)
        self._rules.awaken(self)
        return self._data(accepted.data, now) if accepted.data else []

    def _data(self, data: bytes, now: float) -> list[PathEvent]:
        found: list[PathEvent] = []
        try:
            for number, message in self._reader.feed(data):
                if isinstance(message, Hello):
                    found += self._hello(number, message, now)
                elif isinstance(message, Goodbye):
                    self.http.close(H3_NO_ERROR, message.reason)
                elif isinstance(message, SessionRequest):
                    found += self._asked(number, message, now)
                else:
                    raise ProtocolError(f"a client does not send {type(message).__name__}")
        except ProtocolError as error:
            self.http.close(MESSAGE_ERROR, str(error))
        return found

    def say(self, data: bytes) -> None:
        """Send an encoded message on the control stream."""
        self.http.send(self._stream, data)

    def _asked(self, number: int, message: SessionRequest, now: float) -> list[PathEvent]:
        if self.lane is None:
            raise ProtocolError(f"{type(message).__name__} comes after the Welcome")
        session, path = self.lane.session, self.lane.path
        known = self._rules.answers.take(session, path, number, now)
        if known is None:
            return [MessageReceived(session, path, number, message)]
        if known:
            self.say(known)
        return []

    def _hello(self, number: int, hello: Hello, now: float) -> list[PathEvent]:
        if number in self._answers:  # the answer was lost, or our peer is not sure: it is repeated
            self.http.send(self._stream, self._answers[number])
            return []
        if len(self._answers) >= _MAX_ANSWERS:
            raise ProtocolError(f"more than {_MAX_ANSWERS} messages on one path")
        found: list[PathEvent] = []
        try:
            welcome, lanes = self._admit(hello)
            reply = encode(number, welcome)
            self.lanes, self.lane = lanes, lanes[0]
            self._deadline, self._twice_until = None, now + _SURE_TIME
            found.append(PathUp(lanes[0], self.user or "", slices=lanes[1:]))
        except RefusalError as refusal:
            reply = encode(number, Refuse(refusal.code, str(refusal)))
        self._answers[number] = reply
        self.http.send(self._stream, reply)
        return found

    def _admit(self, hello: Hello) -> tuple[Welcome, tuple[LaneSpec, ...]]:
        """Begin or join a session and make the keys; raises RefusalError, ProtocolError."""
        authority, config = self._rules.authority, self._rules.config
        if self.lane is not None:
            raise RefusalError(RefuseCode.PATH_USED, "this connection has its lane; open another one")
        # the key exchange first: a Hello whose keys are none must not use up a token, nor leave a session behind
        keys = answer(hello.x25519, hello.ml_kem)
        if hello.session:
            authority.join(self.user or "", hello.session, hello.token, hello.path)
            session = hello.session
        else:
            session = authority.begin(self.user or "", hello.path)
        cids = [self._rules.new_cid(worker) for worker in self._rules.places.take(session, 1 + len(hello.slices))]
        lanes = self._lanes_of(session, hello, keys, cids)
        tokens = authority.tokens(session)
        resets = tuple(self._rules.resets.token(cid) for cid in cids)
        welcome = Welcome(
            session,
            hello.path,
            keys.x25519,
            keys.ciphertext,
            hello.suites[0],
            cids[0],
            tokens,
            config.bandwidth.down,
            resets[0],
            tuple(cids[1:]),
            resets[1:],
        )
        return welcome, lanes

    def _lanes_of(self, session: int, hello: Hello, keys: ServerAnswer, cids: Sequence[bytes]) -> tuple[LaneSpec, ...]:
        """Return the lane of every slice; each may use its share of the configured rate."""
        config, suite = self._rules.config, hello.suites[0]
        limit = min((rate for rate in (config.bandwidth.up, hello.down) if rate), default=0) / len(cids)
        brutal = config.congestion.type == "brutal"
        lanes = []
        for index, (cid, theirs) in enumerate(zip(cids, (hello.cid, *hello.slices), strict=False)):
            traffic = keys.secrets(LaneBinding(session, hello.path, index, suite, theirs, cid))
            lanes.append(
                LaneSpec(
                    session=session,
                    path=hello.path,
                    socket=self.socket,
                    peer=self.http.peer,
                    receive_cid=cid,
                    send_cid=theirs,
                    suite=suite,
                    send_secret=traffic.to_client,
                    receive_secret=traffic.to_server,
                    client=False,
                    name=hello.name,
                    user=self.user or "",
                    rate=limit if brutal else 0.0,
                    cap=0.0 if brutal else limit,
                    mtu=MTU,
                    max_mtu=config.mtu,
                    backup=bool(hello.backup),
                    slice=index,
                    slices=len(cids),
                )
            )
        return tuple(lanes)

    def _end(self, reason: str, now: float) -> list[PathEvent]:
        self.ended = True
        self._visitors.lose_all()
        if self.lane is None:
            return []
        self._rules.authority.left(self.lane.session, self.lane.path, now)
        return [PathDown(self.lane.session, self.lane.path, reason or "the client has closed it, or is silent")]
