"""A service in a thread of the test's process, over the stand-in of a device, with a listening socket of its own."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from types import TracebackType

import numpy as np

from accel.calls import copy_ranges
from accel.device.engine import ROOM, DeviceEngine
from accel.device.rehearsal import rehearse_device
from accel.engine import (
    Engine,
    EngineSession,
    Health,
    Job,
    KeySpec,
    Maturity,
    Operation,
    Provenance,
    SealJob,
    SpanJob,
    Suite,
    Ticket,
)
from accel.reference.engine import ReferenceEngine
from accel.service.client import ServiceEngine, ServiceSession
from accel.service.messages import listen
from accel.service.rehearsal import rehearse_ring
from accel.service.server import Server
from accel.trials import AnyJob, SealRow, SpanRow, copy_job, packet, seal_job, span_job
from drivers.errors import DriverError
from drivers.lanes import Room
from tests.host_device import ALL, Fault, HostDevice

_NUMBERS = itertools.count(1)


def fresh_name() -> str:
    """Return a name for a socket that nobody has."""
    return f"@vantun-test-{os.getpid()}-{next(_NUMBERS)}"


class HostService:
    """The service; a context manager.

    Attributes
    ----------
    engine
        What is behind it.
    devices
        What it has opened, in the order of operations.
    ended
        Why its loop has ended by itself.
    """

    def __init__(
        self,
        operations: Sequence[Operation] = tuple(Operation),
        *,
        gather_us: float = 200.0,
        room: Room = ROOM,
        lanes: int = 3,
        polls: int = 1,
        engine: DeviceEngine | None = None,
    ) -> None:
        nothing = np.zeros(0, np.int64)
        copy_ranges(nothing, nothing, nothing)  # may compile, for which no client would wait
        rehearse_ring()
        rehearse_device()
        self.name = fresh_name()
        self.devices: list[HostDevice] = []
        self.ended = ""
        self._polls = polls
        self._clients: list[ServiceEngine] = []
        fake = Provenance.FAKE, Maturity.UNTESTED
        self.engine = engine or DeviceEngine("host", ALL, self._open, *fake, room=room, lanes=lanes)
        self.server = Server(self.engine, operations, partial(listen, self.name), gather_us=gather_us, full=room.source)
        self._told, self._tell = os.pipe()
        self._stopping = False
        self.server.watch(self._told)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self, text: str, kernels: Sequence[str]) -> HostDevice:
        self.devices.append(HostDevice(text, kernels, polls=self._polls))
        return self.devices[-1]

    def _run(self) -> None:
        try:
            while not self._stopping:
                self.server.turn()
            self.server.close()
        except DriverError as error:
            self.ended = str(error)
            self.server.close(self.ended)

    def fail(self, fault: Fault) -> None:
        """Have every device fail."""
        for device in self.devices:
            device.fault = fault

    def client(self) -> ServiceEngine:
        """Return an engine behind it, of which every session ends with it."""
        self._clients.append(ServiceEngine("host", ALL, self.name, Provenance.FAKE, Maturity.UNTESTED))
        return self._clients[-1]

    def stop(self) -> None:
        """End it."""
        if self._thread.is_alive() or not self._stopping:
            self._stopping = True
            os.write(self._tell, b".")
            self._thread.join()
            os.close(self._told)
            os.close(self._tell)
            for client in self._clients:
                client.close()

    def __enter__(self) -> HostService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class SharedHost:
    """An engine behind a service of its own, which begins when it is first opened and ends with the process."""

    name = "service"
    operations = ALL
    provenance = Provenance.FAKE
    maturity = Maturity.UNTESTED

    @cached_property
    def _client(self) -> Engine:
        service = HostService()
        atexit.register(service.stop)
        return service.client()

    def open(self, operation: Operation) -> EngineSession:
        return self._client.open(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        return self._client.submit(session, job)

    def poll(self) -> int:
        return self._client.poll()

    def cancel(self, ticket: Ticket) -> bool:
        return self._client.cancel(ticket)

    def health(self) -> Health:
        return self._client.health()


def key(seed: int) -> KeySpec:
    suite = tuple(Suite)[seed % 3]
    size = suite.key_length
    return KeySpec(suite, bytes([seed] * size), bytes([seed] * 12), bytes([seed ^ 0xFF] * size))


def spans(count: int, k: int = 5, m: int = 2, length: int = 100) -> SpanJob:
    generator = np.random.default_rng(1000 * count + length)
    rows = [SpanRow(tuple(generator.bytes(length) for _ in range(k)), 3, tuple(range(m))) for _ in range(count)]
    return span_job(rows)


def packets(count: int, slot: int = 0, length: int = 300, phase: int = 0) -> SealJob:
    return seal_job([SealRow(slot, number, packet(number, phase, bytes(length))) for number in range(count)])


def expected(job: AnyJob, operation: Operation, keys: dict[int, KeySpec] | None = None) -> AnyJob:
    engine, copy = ReferenceEngine(), copy_job(job)
    session = engine.open(operation)
    for slot, spec in (keys or {}).items():
        session.install_key(slot, spec)
    engine.submit(session, copy)
    return copy


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def finish(engine: Engine, tickets: list[Ticket | None]) -> None:
    """Poll until tickets are done."""

    def done() -> bool:
        engine.poll()
        return all(ticket is not None and ticket.done for ticket in tickets)

    until(done)


def knock(service: HostService, operation: Operation) -> tuple[ServiceSession, Engine]:
    """Return a session of which tests use the inside to lie."""
    engine = service.client()
    session = engine.open(operation)
    assert isinstance(session, ServiceSession)
    return session, engine
