"""The request streams of one HTTP/3 connection: answered as a web site answers, unless credentials open a tunnel.

Every CONNECT request goes through the gate, whatever it asks for and whatever it shows; all others go to the site at
once. What a request gets that does not open a tunnel is what the site says to its method and path. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vantun.control.gate import Ask, Gate, Verdict
from vantun.control.path_events import VisitorCame
from vantun.control.quic import DataReceived, HeadersReceived, HttpConnection
from vantun.control.visits import Visit
from vantun.control.web import Answer, Headers, Origin, Request, error

PROTOCOL = b"vantun"


@dataclass
class Front:
    """What visitors meet; a reload replaces its parts."""

    gate: Gate
    origin: Origin


@dataclass(frozen=True)
class Accepted:
    """A request that opens a tunnel, and what has come on its stream since."""

    stream: int
    user: str
    data: bytes


@dataclass
class _Asked:
    request: Request
    ask: Ask
    opens: bool
    """Whether it opens a tunnel with right credentials."""
    data: bytearray = field(default_factory=bytearray)


class VisitorStreams:
    """Requests that wait for the gate, and those that are being answered.

    Attributes
    ----------
    accepted
        The request that opens the tunnel, once there is one; whoever takes it sends the 200.

    Parameters
    ----------
    changed
        Called when there is something to send, or something accepted.
    """

    def __init__(self, front: Front, http: HttpConnection, source: str, changed: Callable[[], None]) -> None:
        self.accepted: Accepted | None = None
        self._front = front
        self._http = http
        self._source = source
        self._changed = changed
        self._asked: dict[int, _Asked] = {}
        self._checking: dict[int, _Asked] = {}
        self._visits: dict[int, Visit] = {}
        self._opened = False

    def request(self, event: HeadersReceived, now: float) -> list[VisitorCame]:
        """Take the head of a request, or trailers, which are ignored."""
        stream = event.stream_id
        request, protocol = _request(event)
        if not request.method or stream in self._asked or stream in self._checking or stream in self._visits:
            return []
        if request.method == b"CONNECT":
            ask = self._front.gate.ask(self._source, request.header(b"authorization"), now)
            self._asked[stream] = _Asked(request, ask, protocol == PROTOCOL and not event.stream_ended)
            self.judge(now)
            return []
        ready = self._front.origin.answer_now(request)
        if ready is not None:
            self._say(stream, ready)
            return []
        visit = self._visits[stream] = Visit(request, self._http, stream, self._changed)
        return [VisitorCame(visit)]

    def receive(self, event: DataReceived) -> None:
        """Take data of a request; what nobody waits for is dropped."""
        stream = event.stream_id
        waiting = self._asked.get(stream) or self._checking.get(stream)
        if waiting is not None:
            waiting.data += event.data
            waiting.opens = waiting.opens and not event.stream_ended
            self._http.hold(stream, len(event.data))
        elif (visit := self._visits.get(stream)) is not None:
            visit.receive(event.data, end=event.stream_ended)

    def lose(self, stream: int) -> None:
        """Learn that the visitor has given a request up."""
        for waiting in (self._asked.pop(stream, None), self._checking.pop(stream, None)):
            if waiting is not None:
                self._http.release(stream, len(waiting.data))
        visit = self._visits.pop(stream, None)
        if visit is not None:
            visit.lose()

    def lose_all(self) -> None:
        """Learn that the connection has ended."""
        for stream in {*self._asked, *self._checking, *self._visits}:
            self.lose(stream)

    def timer(self) -> float | None:
        """Return when :meth:`judge` has something to do."""
        return min((asked.ask.due for asked in self._asked.values()), default=None)

    def judge(self, now: float) -> None:
        """Have checked what is due."""
        for stream in [stream for stream, asked in self._asked.items() if asked.ask.due <= now]:
            asked = self._checking[stream] = self._asked.pop(stream)
            self._front.gate.check(asked.ask, lambda verdict, at=stream, of=asked: self._judged(at, of, verdict))  # type: ignore[misc] # its own stream

    def refresh(self) -> None:
        """Let answers go on for which there is room again."""
        for stream, visit in list(self._visits.items()):
            if visit.over:
                del self._visits[stream]
            elif visit.has_room:
                visit.notify()

    def _judged(self, stream: int, asked: _Asked, verdict: Verdict) -> None:
        if self._checking.get(stream) is not asked:  # it was given up meanwhile
            return
        del self._checking[stream]
        self._http.release(stream, len(asked.data))
        if verdict is Verdict.RIGHT and asked.opens and not self._opened:
            self._opened = True
            self.accepted = Accepted(stream, asked.ask.credentials.user, bytes(asked.data))
        elif verdict is Verdict.BUSY:
            self._say(stream, error(503, asked.request))
        else:
            answer = self._front.origin.answer_now(asked.request)
            self._say(stream, answer or error(405, asked.request))
        self._changed()

    def _say(self, stream: int, answer: Answer) -> None:
        assert isinstance(answer.body, bytes), "an answer without I/O is whole"
        self._http.answer(stream, [(b":status", b"%d" % answer.status), *answer.headers], answer.body)


def _request(event: HeadersReceived) -> tuple[Request, bytes]:
    """Return a request and its ``:protocol``; without a method it is trailers."""
    pseudo = {name: value for name, value in event.headers if name.startswith(b":")}
    fields: Headers = [(name, value) for name, value in event.headers if not name.startswith(b":") and name != b"host"]
    host = next((value for name, value in event.headers if name == b"host"), b"")
    request = Request(
        method=pseudo.get(b":method", b""),
        authority=pseudo.get(b":authority", host),
        path=pseudo.get(b":path", b"/"),
        headers=fields,
        has_body=not event.stream_ended,
    )
    return request, pseudo.get(b":protocol", b"")
