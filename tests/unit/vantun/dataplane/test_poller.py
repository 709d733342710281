"""The epoll set of a worker: what is ready is found by sleeping and by watching, and nobody sleeps for too short."""

from __future__ import annotations

import os
import time

import pytest

from vantun.dataplane import poller as module
from vantun.dataplane.poller import IN, Poller
from vantun.dataplane.wake import TAKEN


@pytest.mark.parametrize("spin", [0.0, 0.5, 5.0])
def test_what_is_ready_is_handled_whether_watched_for_or_slept_on(spin: float) -> None:
    poller = Poller()
    seen: list[int] = []
    source, sink = os.pipe()
    poller.add(source, IN, seen.append)
    os.write(sink, b"x")
    assert poller.wait(1.0, spin) == 1
    assert seen == [IN]
    os.close(source)
    os.close(sink)
    poller.close()


@pytest.mark.parametrize("spin", [0.0, 1e-4, 1.0])
def test_without_an_event_the_time_passes(spin: float) -> None:
    poller = Poller()
    began = time.monotonic()
    assert poller.wait(0.002, spin) == 0
    assert time.monotonic() - began >= 0.002
    poller.close()


def test_a_watch_gives_the_core_away_and_ends_when_somebody_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    yields: list[None] = []
    away = 2 * TAKEN

    def taken() -> None:
        yields.append(None)
        time.sleep(away)

    monkeypatch.setattr(os, "sched_yield", taken)
    monkeypatch.setattr(module, "_taken_by_others", lambda: len(yields))
    poller = Poller()
    assert poller.wait(0.02, 0.01) == 0
    assert len(yields) == 1
    assert poller.away >= away
    monkeypatch.setattr(module, "_taken_by_others", lambda: min(len(yields), 1))  # a hypervisor keeps it
    poller.wait(0.02, 0.01)
    assert len(yields) > 2
    assert poller.away == 0.0
    poller.close()


def test_a_watch_counts_what_others_have_had() -> None:
    assert module._taken_by_others() >= 0
