"""A service for each device: PoCL pretends to have several."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE
from accel.child import environment
from accel.engine import Maturity, Operation, Provenance
from accel.service.client import ServiceEngine
from accel.trials import difference, run
from tests.service import expected, fresh_name, spans

POCL = next(row for row in CATALOGUE if row.name == "pocl").look(Path("/"))
pytestmark = pytest.mark.skipif(not POCL.present, reason=f"pocl: not found: {', '.join(POCL.missing)}")
SEVERAL = {"POCL_DEVICES": "basic pthread"}
LIST = """
from accel.service.devices import SERVED
from drivers.opencl.find import choose_device
from drivers.errors import DriverError
assert SERVED["pocl"].devices() == 2
places = [choose_device(index, emulated=True) for index in range(2)]
assert places[0].handle != places[1].handle
try:
    choose_device(2, emulated=True)
except DriverError as error:
    print(error)
"""


TRY = """
from drivers.errors import UnavailableError
from drivers.opencl.find import choose_device
try:
    choose_device(emulated=True)
except UnavailableError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def _compiles() -> None:
    """Skip where PoCL compiles nothing; asked in a child, as its devices are fixed when it is loaded."""
    line = [sys.executable, "-P", "-c", TRY]
    done = subprocess.run(line, env=environment() | SEVERAL, capture_output=True, text=True, check=True)
    if done.stdout.strip():
        pytest.skip(f"PoCL: {done.stdout.strip()}")


def test_devices_are_counted_and_chosen_by_number() -> None:
    """In a child: how many devices PoCL has is fixed when it is loaded."""
    line = [sys.executable, "-P", "-c", LIST]
    done = subprocess.run(line, env=environment() | SEVERAL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "there is no OpenCL device 2; there are: 0 = " in done.stdout


@pytest.mark.slow
def test_each_device_has_a_service_of_its_own() -> None:
    """Both compute, and a number that no device has is told, with how many there are."""
    with ExitStack() as stack:
        ends = []
        for index in range(3):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            name = fresh_name()
            line = [sys.executable, "-P", "-m", "accel.service.main", "--engine", "pocl", "--device", str(index)]
            line += ["--operations", "fec.encode", "--name", name, "--parent", str(os.getpid())]
            line += ["--control", str(theirs.fileno())]
            process = subprocess.Popen(line, pass_fds=[theirs.fileno()], env=environment() | SEVERAL)
            theirs.close()
            stack.callback(process.wait)
            ends.append((name, stack.enter_context(ours)))
        said = []
        for name, ours in ends:
            ours.settimeout(300)
            said.append((name, json.loads(ours.recv(60_000))))
        assert [each.get("devices") for _, each in said] == [2, 2, 2]
        assert [each.get("ready", False) for _, each in said] == [True, True, False], said
        assert "there is no OpenCL device 2" in said[2][1]["failed"]
        for name, _ in said[:2]:
            engine = ServiceEngine("pocl", frozenset(Operation), name, Provenance.EMULATOR, Maturity.UNTESTED)
            session, job = engine.open(Operation.FEC_ENCODE), spans(3)
            run(engine, session, job, patience=60.0)
            assert difference(job, expected(spans(3), Operation.FEC_ENCODE)) == ""
            session.close()
        for _, ours in ends:
            ours.close()
