from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import KeySpec, Operation, Suite
from accel.service.messages import (
    LONGEST,
    greeting,
    install,
    is_ours,
    listen,
    read_greeting,
    read_install,
    read_remove,
    reason,
    remove,
    wipe,
)
from accel.service.ring import UnbelievableError
from drivers.errors import SystemCallError
from tests.service import fresh_name


@pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.value)
def test_keys_arrive_as_they_were_sent(suite: Suite) -> None:
    spec = KeySpec(suite, bytes(range(suite.key_length)), bytes(range(12)), bytes(range(1, suite.key_length + 1)))
    message = install(77, spec)
    assert len(message) <= LONGEST
    assert read_install(message) == (77, spec)
    wipe(message)
    assert not any(message)


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_greetings_and_removals(operation: Operation) -> None:
    assert read_greeting(greeting(operation)) is operation
    assert read_remove(remove(-5)) == -5


@given(message=st.binary(max_size=100))
def test_rubbish_is_refused_not_believed(message: bytes) -> None:
    with suppress(UnbelievableError):
        assert len(greeting(read_greeting(message))) == len(message)
    with suppress(UnbelievableError):
        assert install(*read_install(bytearray(message)))[1:] == message[1:]
    with suppress(UnbelievableError):
        assert remove(read_remove(bytearray(message)))[1:] == message[1:]


def test_reasons_are_cut_to_a_message() -> None:
    assert len(reason(b"-", "x" * 10_000)) == LONGEST


def test_a_name_is_one_listeners_only() -> None:
    name = fresh_name()
    with listen(name) as sock:
        with pytest.raises(SystemCallError, match="Address already in use"):
            listen(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.connect("\0" + name[1:])
            assert is_ours(other)
            accepted, _ = sock.accept()
            with accepted:
                assert is_ours(accepted)
