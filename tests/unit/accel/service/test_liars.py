"""Clients that lie to the service: it neither ends nor reads what is not theirs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.engine import (
    Job,
    Operation,
    SealJob,
)
from accel.service.messages import address_of_name, greeting, install
from accel.service.ring import ASKED, HOW_MANY, MOST_ROWS, PARITIES, SLOTS
from accel.trials import difference, run
from drivers.errors import DriverError
from tests.service import HostService, expected, key, knock, packets, spans, until

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")


@given(
    operation=st.sampled_from(Operation),
    rows=st.one_of(st.integers(-1, 6), st.sampled_from((MOST_ROWS, MOST_ROWS + 1, 1 << 60))),
    parities=st.one_of(st.integers(-1, 9), st.integers(-(1 << 63), (1 << 63) - 1)),
    rubbish=st.binary(min_size=64, max_size=64),
    seed=st.integers(0, 255),
)
@settings(deadline=None)
def test_a_liar_harms_nobody_but_itself(
    operation: Operation, rows: int, parities: int, rubbish: bytes, seed: int
) -> None:
    service = _LIARS()
    liar, _ = knock(service, operation)
    honest = service.client()
    session = honest.open(operation)
    line, slot = liar._ring.client[seed % SLOTS], liar._ring.slots[seed % SLOTS]
    slot.words[:, :4] = np.frombuffer(rubbish, np.int32).reshape(4, 4)
    slot.words[:, 4:16] = seed
    slot.row[:64] = slot.lost[:64] = np.frombuffer(rubbish, np.uint8)
    line[HOW_MANY], line[PARITIES], line[ASKED] = rows, parities, seed
    liar._ring.service[:] = seed
    os.eventfd_write(liar._bell, 1 + seed)
    job: Job = spans(2) if operation in (Operation.FEC_ENCODE, Operation.FEC_DECODE) else packets(2)
    keys = {0: key(1), 1: key(2)} if isinstance(job, SealJob) else {}
    if operation is Operation.AEAD_SEAL:
        for number, spec in keys.items():
            session.install_key(number, spec)
        wanted = expected(job, operation, keys)
        run(honest, session, job)
        assert difference(job, wanted) == ""
    elif operation is Operation.FEC_ENCODE:
        wanted = expected(job, operation)
        run(honest, session, job)
        assert difference(job, wanted) == ""
    assert service.ended == ""
    session.close()
    liar.close()


_kept: list[HostService] = []


def _LIARS() -> HostService:  # noqa: N802
    """Return one service for all the lies: to begin one takes longer than to lie."""
    if not _kept:
        _kept.append(HostService())
    return _kept[0]


@pytest.fixture(autouse=True, scope="module")
def _over() -> Iterator[None]:
    yield
    for service in _kept:
        service.stop()


@pytest.mark.parametrize(
    "message", [b"", b"?", b"VTS0\0", greeting(Operation.FEC_ENCODE)[:-1] + b"\x09"], ids=["end", "odd", "old", "none"]
)
def test_who_does_not_greet_is_shown_the_door(message: bytes) -> None:
    with HostService((Operation.FEC_ENCODE,)) as service, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(address_of_name(service.name))
        if message:
            sock.send(message)
            assert sock.recv(512)[:1] == b"!"
        else:
            sock.shutdown(socket.SHUT_WR)
        assert sock.recv(512) == b""


@pytest.mark.parametrize("message", [b"X", b"I", bytes(install(1, key(1))[:-1]), b"R1"], ids=["odd", "i", "short", "r"])
def test_keys_that_cannot_be_believed(message: bytes) -> None:
    with HostService((Operation.AEAD_SEAL,)) as service:
        session, engine = knock(service, Operation.AEAD_SEAL)
        session._socket.send(message)
        until(lambda: not session.check())
        assert "cannot be believed" in session.lost
        assert not engine.health().usable
        with pytest.raises(DriverError, match="cannot be believed"):
            session.install_key(0, key(0))


def test_a_submission_that_cannot_be_believed() -> None:
    with HostService((Operation.FEC_ENCODE,)) as service:
        session, engine = knock(service, Operation.FEC_ENCODE)
        session._ring.client[0, HOW_MANY], session._ring.client[0, ASKED] = -5, 1
        os.eventfd_write(session._bell, 1)
        until(lambda: not session.check())
        with pytest.raises(DriverError, match="-5 rows"):
            engine.submit(session, spans(1))
        assert engine.poll() == 0
