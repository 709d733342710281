"""One path of a client: a QUIC connection to the server, from the first packet to its end. Sans-IO."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto

from accel.engine import Suite
from vantun.config import ClientConfig, PathConfig
from vantun.control.authentication import authorization
from vantun.control.certificates import fingerprint, is_pinned, trust
from vantun.control.key_exchange import ClientExchange, LaneBinding, LaneSecrets
from vantun.control.message_fields import readable
from vantun.control.messages import (
    MAX_NAME,
    Goodbye,
    Hello,
    MessageReader,
    Refuse,
    RefuseCode,
    Welcome,
    encode,
)
from vantun.control.path_events import (
    MessageReceived,
    PathDown,
    PathEvent,
    PathRefused,
    PathUp,
    Route,
    SessionIdentity,
    SessionUnknownError,
)
from vantun.control.places import MAX_SLICES
from vantun.control.quic import (
    H3_NO_ERROR,
    ConnectionTerminated,
    DataReceived,
    GuardedConnection,
    HandshakeCompleted,
    HeadersReceived,
    HttpConnection,
    StopSendingReceived,
    StreamReset,
    quic_configuration,
    reason_of,
)
from vantun.control.reset import is_reset
from vantun.control.server_path import MTU, new_cid
from vantun.control.session_messages import ListenAnswer, SessionRequest, TunAnswer
from vantun.control.tickets import KeptTickets, SessionTicket
from vantun.control.visitor_streams import PROTOCOL
from vantun.errors import AuthenticationError, CertificateError, ConnectError, ProtocolError, VantunError
from vantun.lanes import LaneSpec

SUITES = (Suite.AES_128_GCM, Suite.AES_256_GCM, Suite.CHACHA20_POLY1305)
"""In order of preference; the server takes the first."""
HELLO = 1
_CRYPTO_ERROR = 0x100
_CERTIFICATE_EXPIRED = 45
_CERTIFICATE_ALERTS = frozenset((42, 43, 44, _CERTIFICATE_EXPIRED, 46, 48))
"""TLS alerts about certificates: bad, unsupported, revoked, expired, unknown, unknown authority (RFC 8446, 6.2)."""


class _State(Enum):
    HANDSHAKE = auto()
    ASKED = auto()
    HELLO = auto()
    UP = auto()
    OVER = auto()


class ClientPath:
    """Sets up one path and keeps it.

    The order is what keeps credentials safe: handshake, certificate, request with credentials and Hello, Welcome, lane.
    With a ticket of an earlier connection, request and Hello go with the first packets (0-RTT): they are encrypted for
    the server that issued it, which had shown its certificate then, and it takes them once.
    """

    def __init__(
        self,
        config: ClientConfig,
        path: PathConfig,
        number: int,
        route: Route,
        identity: SessionIdentity | None,
        now: float,
        tickets: KeptTickets | None = None,
    ) -> None:
        self._config = config
        self._path = path
        self._number = number
        self._socket, self._peer = route.socket, route.peer
        self._identity = identity
        self._exchange = ClientExchange()
        self._cids = tuple(new_cid(worker) for worker in range(min(route.workers, MAX_SLICES)))
        self._state = _State.HANDSHAKE
        self._stream = -1
        self._reader = MessageReader()
        self._lane: LaneSpec | None = None
        self._resets: tuple[bytes, ...] = ()
        """Of every slice: any of them may be the first to send what the server does not know."""
        self._events: list[PathEvent] = []
        self._began = self._now = now
        self._tickets = tickets if tickets is not None else KeptTickets()
        self._server = (path.server, config.tls)
        configuration = quic_configuration(is_client=True)
        trust(configuration, config.tls, path.server.host)
        ticket = configuration.session_ticket = self._tickets.take(self._server)
        self._new_tickets: list[SessionTicket] = []
        self._quic = GuardedConnection(configuration=configuration, session_ticket_handler=self._new_tickets.append)
        self._quic.connect(self._peer, now)
        self._http = HttpConnection(self._quic, early=ticket is not None)
        if ticket is not None:
            self._ask()

    def receive(self, data: bytes, socket: int, peer: tuple[str, int], now: float) -> None:
        """Take a datagram; ``socket`` and ``peer`` are known already: the socket is this path's own."""
        del socket, peer
        self._now = now
        if self._state is _State.UP and any(is_reset(data, reset) for reset in self._resets):
            self._end("the server does not know it any more, it was probably restarted", at_once=True)
        self._http.receive(data, self._peer, now)
        self._handle()

    def transmit(self, now: float) -> list[tuple[int, bytes, tuple[str, int]]]:
        """Return everything that is to be sent now; packets of the set-up go twice, since the path may be lossy."""
        if self._state is not _State.UP:
            self._http.hasten(1)
        sent = [(self._socket, data, self._peer) for data, _ in self._http.transmit(now)]
        self._handle()
        # packets of the set-up, and the last one of all, which nobody repeats
        return sent if self._state is _State.UP else [*sent, *sent]

    def timer(self) -> float | None:
        """Return when :meth:`run_timers` is due."""
        return self._http.timer()

    def run_timers(self, now: float) -> None:
        """Do what is due."""
        self._http.run_timers(now)
        self._handle()

    def take_events(self) -> list[PathEvent]:
        """Return what has happened since the last call."""
        events, self._events = self._events, []
        return events

    def touch(self, session: int, path: int, now: float, *, at_once: bool = False) -> None:
        """Keep the connection, because its lane is alive; without, it ends after its idle time-out.

        ``at_once``: this end's address may have changed, and the server's connection is to follow.
        """
        del session, path
        if self._state is _State.UP:
            self._http.ping(now, at_once=at_once)

    def send(self, number: int, message: SessionRequest) -> None:
        """Send a session's request; nothing happens while the path is not up."""
        if self._state is _State.UP:
            self._http.send(self._stream, encode(number, message))

    def close(self, now: float) -> None:
        """End the path; no event follows."""
        del now
        self._state = _State.OVER
        self._http.close(H3_NO_ERROR, "the client leaves")

    # --- what happens

    def _handle(self) -> None:
        for event in self._http.events():
            if self._state is _State.OVER:
                continue
            match event:
                case HandshakeCompleted():
                    self._handshaken(event)
                case HeadersReceived() if event.stream_id == self._stream:
                    self._answered(dict(event.headers))
                case DataReceived() if event.stream_id == self._stream and self._state in (_State.HELLO, _State.UP):
                    self._data(event.data)
                    if event.stream_ended:
                        self._end("the server has ended the control stream")
                case StreamReset() | StopSendingReceived() if event.stream_id == self._stream:
                    self._end("the server has ended the control stream")
                case ConnectionTerminated():
                    self._terminated(event)
        while self._new_tickets and self._state is _State.UP:  # a server that has shown that it is one of ours
            self._tickets.put(self._server, self._new_tickets.pop())

    def _handshaken(self, event: HandshakeCompleted) -> None:
        pin = "" if event.session_resumed else self._config.tls.pin_sha256
        certificate = self._quic.tls._peer_certificate
        if pin and (certificate is None or not is_pinned(certificate, pin)):
            found = fingerprint(certificate) if certificate is not None else "none"
            self._refused(
                CertificateError(
                    f"the server at {self._path.server} has another certificate (SHA-256 {found}) than tls.pinSHA256 "
                    "says; somebody is in between, or the certificate was renewed: ask the server's operator"
                ),
                retry=False,
            )
            return
        if self._state is _State.HANDSHAKE:
            self._ask()
        elif not event.early_data_accepted:
            self._http.send_again(self._now)

    def _ask(self) -> None:
        """Send credentials, and the Hello behind them without waiting for the answer: that saves a round trip."""
        self._state = _State.ASKED
        host = self._config.tls.sni or self._path.server.host
        host = f"[{host}]" if ":" in host else host
        self._stream = self._http.request(
            [
                (b":method", b"CONNECT"),
                (b":protocol", PROTOCOL),
                (b":scheme", b"https"),
                (b":authority", host.encode()),
                (b":path", b"/"),
                (b"authorization", authorization(self._config.auth)),
            ]
        )
        hello = Hello(
            session=self._identity.session if self._identity else 0,
            token=self._identity.token if self._identity else b"",
            path=self._number,
            x25519=self._exchange.x25519,
            ml_kem=self._exchange.ml_kem,
            suites=SUITES,
            cid=self._cids[0],
            name=readable(self._path.name, MAX_NAME),
            down=self._path.down,
            backup=int(self._path.backup),
            slices=self._cids[1:],
        )
        self._http.send(self._stream, encode(HELLO, hello))

    def _answered(self, headers: dict[bytes, bytes]) -> None:
        if self._state is not _State.ASKED:
            return
        if headers.get(b":status") == b"503" and b"content-length" in headers:
            error = ConnectError(f"the server at {self._path.server} has too much to do to check our credentials now")
            self._refused(error, retry=True)
            return
        # a web site whose every answer is 200 tells the length of its page; a control stream has none
        if headers.get(b":status") != b"200" or b"content-length" in headers:
            self._refused(
                AuthenticationError(
                    f"the server at {self._path.server} does not accept our credentials; compare `auth` with its file"
                ),
                retry=False,
            )
            return
        self._state = _State.HELLO

    def _data(self, data: bytes) -> None:
        try:
            for number, message in self._reader.feed(data):
                match message:
                    case Welcome() if self._state is _State.HELLO and number == HELLO:
                        self._welcome(message)
                    case Refuse() if self._state is _State.HELLO and number == HELLO:
                        self._refuse(message)
                    case Goodbye():
                        self._end(f"the server says goodbye: {message.reason}")
                    case TunAnswer() | ListenAnswer() if self._lane is not None and self._state is _State.UP:
                        self._events.append(MessageReceived(self._lane.session, self._lane.path, number, message))
                    case Welcome():  # repeated: we have it
                        continue
                    case _:
                        raise ProtocolError(f"a server does not send {type(message).__name__} now")
        except ProtocolError as error:
            self._refused(error, retry=True) if self._state is _State.HELLO else self._end(str(error))

    def _welcome(self, welcome: Welcome) -> None:
        joins = self._identity.session if self._identity else welcome.session
        if welcome.path != self._number or welcome.session != joins or welcome.suite not in SUITES:
            raise ProtocolError("the server's Welcome is not for this Hello")
        theirs = (welcome.cid, *welcome.slices)
        if len(theirs) > len(self._cids):
            raise ProtocolError(f"the server grants {len(theirs)} slices where {len(self._cids)} were offered")
        pairs = tuple(zip(self._cids, theirs, strict=False))
        bindings = (
            LaneBinding(welcome.session, self._number, index, welcome.suite, *pair) for index, pair in enumerate(pairs)
        )
        secrets = self._exchange.finish(welcome.x25519, welcome.ml_kem, *bindings)
        self._lane = self._lane_of(welcome, secrets[0], len(pairs))
        more = tuple(
            replace(
                self._lane,
                receive_cid=ours,
                send_cid=other,
                send_secret=traffic.to_server,
                receive_secret=traffic.to_client,
                slice=index,
            )
            for index, ((ours, other), traffic) in enumerate(zip(pairs, secrets, strict=True))
        )
        self._resets = (welcome.reset, *welcome.resets)
        self._state = _State.UP
        self._events.append(PathUp(self._lane, "", welcome.tokens, more[1:]))

    def _lane_of(self, welcome: Welcome, traffic: LaneSecrets, slices: int) -> LaneSpec:
        """Return the lane of slice 0; every slice may use its share of the configured rate."""
        limit = min((rate for rate in (self._path.up, welcome.up) if rate), default=0)
        brutal = self._config.congestion.type == "brutal"
        return LaneSpec(
            session=welcome.session,
            path=self._number,
            socket=self._socket,
            peer=self._peer,
            receive_cid=self._cids[0],
            send_cid=welcome.cid,
            suite=welcome.suite,
            send_secret=traffic.to_server,
            receive_secret=traffic.to_client,
            client=True,
            name=self._path.name,
            rate=limit / slices if brutal else 0.0,
            cap=0.0 if brutal else limit / slices,
            slices=slices,
            mtu=MTU,
            max_mtu=self._path.mtu,
            # early, nothing may have been measured yet; then the way there and back took no longer than all of this
            rtt=self._http.rtt or max(self._now - self._began, 1e-3),
            backup=self._path.backup,
        )

    def _refuse(self, refuse: Refuse) -> None:
        error: VantunError
        if refuse.code is RefuseCode.UNKNOWN_SESSION:
            error = SessionUnknownError(f"the server does not know our session (any more): {refuse.reason}")
        else:
            error = ConnectError(f"the server at {self._path.server} refuses the path: {refuse.reason}")
        self._refused(error, retry=refuse.code not in (RefuseCode.NO_SUITE, RefuseCode.MALFORMED))

    def _terminated(self, event: ConnectionTerminated) -> None:
        alert = event.error_code - _CRYPTO_ERROR
        if self._lane is not None:
            self._end(reason_of(event) or self._http.broken or "the connection is silent, or was closed")
        elif alert in _CERTIFICATE_ALERTS:
            step = "set tls.pinSHA256 to its fingerprint, or tls.ca to its authority"
            if alert == _CERTIFICATE_EXPIRED:
                step = (
                    "its operator has to renew it; if it is valid, this machine's clock is wrong (see `vantun doctor`)"
                )
            text = f"the certificate of {self._path.server} is not accepted: {reason_of(event)}; {step}"
            self._refused(CertificateError(text), retry=False)
        else:
            why = reason_of(event) or self._http.broken or "no answer"
            self._refused(ConnectError(f"no connection to {self._path.server}: {why}"), retry=True)

    def _refused(self, error: VantunError, *, retry: bool) -> None:
        self._state = _State.OVER
        self._events.append(PathRefused(self._number, error, retry))
        self._http.close(H3_NO_ERROR)

    def _end(self, reason: str, *, at_once: bool = False) -> None:
        if self._lane is not None and self._state is _State.UP:
            self._events.append(PathDown(self._lane.session, self._lane.path, reason, at_once=at_once))
        elif self._state is not _State.OVER:
            self._events.append(PathRefused(self._number, ConnectError(reason)))
        self._state = _State.OVER
        self._http.close(H3_NO_ERROR)
