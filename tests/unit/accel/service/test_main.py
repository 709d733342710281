"""The service's process, and the engines that it can have."""

from __future__ import annotations

import json
import os
import socket

import pytest

from accel.catalogue import CATALOGUE
from accel.engine import Operation
from accel.reference.engine import ReferenceEngine
from accel.service.devices import SERVED
from accel.service.main import Offer, main, serve
from drivers.errors import DriverError
from tests.service import fresh_name


def offer(control: socket.socket) -> Offer:
    return Offer((Operation.FEC_ENCODE,), fresh_name(), os.dup(control.fileno()))


def said(sock: socket.socket) -> dict[str, object]:
    sock.settimeout(30)
    found = json.loads(sock.recv(60_000))
    assert isinstance(found, dict)
    return found


def no_device() -> int:
    raise DriverError("there is no device; put one in")


class Liar(ReferenceEngine):
    """Passes no self-test."""

    def submit(self, session, job):  # type: ignore[no-untyped-def]
        ticket = super().submit(session, job)
        job.memory[:] ^= 1
        return ticket


@pytest.mark.parametrize("engine", SERVED)
def test_what_is_served_is_in_the_catalogue(engine: str) -> None:
    [row] = [row for row in CATALOGUE if row.name == engine]
    made = SERVED[engine].make(frozenset({Operation.FEC_ENCODE}), 0)
    assert (made.name, made.provenance, made.maturity) == (row.name, row.provenance, row.maturity)
    assert made.operations == {Operation.FEC_ENCODE}


def test_why_it_cannot_begin() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert serve(ReferenceEngine, no_device, offer(theirs)) == 1
        assert said(ours) == {"failed": "there is no device; put one in", "devices": 0}


def test_an_engine_that_computes_wrong_is_not_offered() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert serve(Liar, lambda: 1, offer(theirs)) == 1
        assert "self-test" in str(said(ours)["failed"])


def test_it_does_not_begin_for_a_parent_that_is_gone() -> None:
    words = ["--engine", "pocl", "--operations", "fec.encode", "--name", "@x", "--control", "0", "--parent", "1"]
    assert main([*words[:-1], str(os.getppid() + 1)]) == 0
