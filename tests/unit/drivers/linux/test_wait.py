"""Sleeping on a descriptor, and how a TCP socket ends."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from drivers.errors import SystemCallError
from drivers.linux.linger import end_on_close, reset_on_close
from drivers.linux.wait import Sleeper, die_with_parent, set_timer_slack


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    made = os.pipe()
    yield made
    for descriptor in made:
        os.close(descriptor)


def test_a_readable_descriptor_ends_the_sleep_however_long(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    for seconds in (0.0, 1e-6, 3600.0, math.inf):
        assert Sleeper(pipe[0]).sleep(seconds)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-4])
def test_time_ends_the_sleep_too(pipe: tuple[int, int], seconds: float) -> None:
    assert not Sleeper(pipe[0]).sleep(seconds)


def test_an_epoll_set_is_readable_when_one_of_its_own_is_ready(pipe: tuple[int, int]) -> None:
    with select.epoll() as watched:
        watched.register(pipe[0], select.EPOLLIN)
        sleeper = Sleeper(watched.fileno())
        assert not sleeper.sleep(0.0)
        os.write(pipe[1], b"x")
        assert sleeper.sleep(math.inf)


def test_a_signal_ends_the_sleep_as_if_nothing_had_come(pipe: tuple[int, int]) -> None:
    """One signal could come before the sleep; they keep coming until it has ended."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        assert not Sleeper(pipe[0]).sleep(math.inf)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_timer_slack_can_be_set() -> None:
    set_timer_slack(50_000)


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(SystemCallError, match="tying this process to its parent"):
        die_with_parent(1000)


@pytest.mark.slow
def test_a_process_dies_with_its_parent() -> None:
    child = "import os, signal; from drivers.linux.wait import die_with_parent; die_with_parent(signal.SIGKILL); "
    child += "os.write(1, b'.'); signal.pause()"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        process.kill()
        assert process.stdout.read() == b"", "the end of the pipe says that the child has closed it, too"


@pytest.mark.parametrize("orderly", [True, False])
def test_a_socket_ends_as_it_was_told(orderly: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=10)
        far, _ = listener.accept()
    reset_on_close(far)
    if orderly:
        end_on_close(far)
    far.close()
    with near:
        if orderly:
            assert near.recv(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                near.recv(1)
