"""Messages between control process and worker: what goes in comes out, and nothing else is taken for a message."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import Suite
from vantun.dataplane.events import FlowOpened, LaneChanged, LaneRefused
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ProtocolError
from vantun.lanes import LaneSpec
from vantun.tun_messages import AddTun, AttachTun, OpenTun, SetPacketRules, SetTunRoutes, TunFlow, TunLost
from vantun.udp_messages import AttachUdp, CloseUdp, MoveUdp, OpenUdp, ResolveUdp, UdpClosed, UdpKind, UdpTarget
from vantun.worker_messages import (
    MAX_MESSAGE,
    MESSAGES,
    AddLane,
    AttachFlow,
    Configure,
    Message,
    Misses,
    OpenFlow,
    Ready,
    RefuseFlow,
    Stop,
    StreamReply,
    decode,
    encode,
)

INTEGERS = st.integers(0, (1 << 62) - 1)
TEXT = st.text(max_size=40)
CID = st.binary(min_size=8, max_size=8)
SECRET = st.binary(min_size=32, max_size=32)
PEER = st.tuples(TEXT, st.integers(0, 65535))
LANES = st.builds(
    LaneSpec,
    session=INTEGERS,
    path=INTEGERS,
    socket=st.integers(0, 100),
    peer=PEER,
    receive_cid=CID,
    send_cid=CID,
    suite=st.sampled_from(Suite),
    send_secret=SECRET,
    receive_secret=SECRET,
    client=st.booleans(),
    name=TEXT,
    user=TEXT,
    rate=st.floats(0, 1e12),
    mtu=st.integers(1200, 9000),
)
REPLIES = st.builds(StreamReply, st.binary(max_size=30), st.binary(max_size=30), st.integers(-1, 30), st.integers(0, 9))
ANY_MESSAGE: st.SearchStrategy[Message] = st.one_of(
    st.builds(AddLane, LANES),
    st.builds(OpenFlow, INTEGERS, TEXT, REPLIES),
    st.builds(AttachFlow, INTEGERS),
    st.builds(RefuseFlow, INTEGERS, st.sampled_from(RefusalCode)),
    st.builds(Configure, st.dictionaries(TEXT, INTEGERS), st.dictionaries(TEXT, TEXT)),
    st.builds(Ready, st.dictionaries(TEXT, TEXT)),
    st.builds(
        Misses,
        st.integers(0, 100),
        st.lists(st.tuples(st.binary(max_size=1500), TEXT, st.integers(0, 65535)), max_size=5).map(tuple),
    ),
    st.builds(FlowOpened, INTEGERS, INTEGERS, TEXT),
    st.builds(LaneChanged, INTEGERS, INTEGERS, TEXT, TEXT),
    st.builds(LaneRefused, INTEGERS, INTEGERS, TEXT),
    st.just(Stop()),
    st.builds(
        OpenUdp,
        INTEGERS,
        INTEGERS,
        st.sampled_from(UdpKind),
        TEXT,
        PEER,
        st.floats(0.1, 1e6),
        st.integers(1, 10_000),
    ),
    st.builds(MoveUdp, INTEGERS, INTEGERS),
    st.builds(CloseUdp, INTEGERS),
    st.builds(AttachUdp, INTEGERS, PEER, st.floats(0.1, 1e6)),
    st.builds(UdpTarget, INTEGERS, INTEGERS, TEXT, st.integers(0, 65535)),
    st.builds(ResolveUdp, INTEGERS, INTEGERS, TEXT, st.integers(0, 65535)),
    st.builds(UdpClosed, INTEGERS, TEXT),
    st.builds(AddTun, INTEGERS, st.booleans(), st.booleans(), INTEGERS),
    st.builds(SetTunRoutes, INTEGERS, st.lists(TEXT).map(tuple), st.lists(TEXT).map(tuple)),
    st.builds(OpenTun, INTEGERS),
    st.builds(AttachTun, INTEGERS),
    st.builds(SetPacketRules, st.binary(max_size=200)),
    st.builds(TunFlow, INTEGERS, st.booleans(), INTEGERS),
    st.builds(TunLost, INTEGERS, TEXT),
)


@given(ANY_MESSAGE)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@given(
    st.sampled_from([*MESSAGES, "nothing"]),
    st.dictionaries(st.sampled_from(["number", "session", "path", "handle", "lane"]), st.none() | TEXT | INTEGERS),
)
def test_a_map_with_other_fields_is_no_message(name: str, fields: dict[str, object]) -> None:
    try:
        message = decode(cbor2.dumps({**fields, "is": name}))
    except ProtocolError:
        return
    assert type(message) is MESSAGES[name]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"is": "attach flow", "handle": "7"}, "expected int, found '7'"),
        ({"is": "attach flow", "handle": True}, "expected int, found True"),
        ({"is": "attach flow"}, "expected the fields"),
        ({"is": "refuse flow", "handle": 1, "code": 99}, "99 is no RefusalCode"),
        ({"is": "misses", "number": 0, "datagrams": [[b"", "h"]]}, "expected 3 items, found 2"),
        ({"is": "ready", "engines": {1: "x"}, "compiled": ""}, "expected a map with names"),
        ([], "no map"),
    ],
)
def test_the_complaint_names_the_field(fields: object, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        decode(cbor2.dumps(fields))


def test_a_message_has_a_largest_size() -> None:
    with pytest.raises(ValueError, match="send less"):
        encode(Misses(0, ((bytes(MAX_MESSAGE), "h", 1),)))


@pytest.mark.parametrize(("code_at", "expected"), [(1, b"a\x05c"), (-1, b"abc"), (3, b"abc")])
def test_a_refusal_carries_its_code(code_at: int, expected: bytes) -> None:
    assert StreamReply(refused=b"abc", code_at=code_at).refusal(5) == expected
