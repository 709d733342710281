"""Every CPU level that is here: engines as the reference has them, and the same packets by whole data planes.

Each level runs in a process of its own, by the library of kernels alone; ``VANTUN_CPU`` hides what is above it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from drivers.cpu import read_cpu
from drivers.kernel_library import KernelLibrary
from vantun.kernel_cache import ROOT
from vantun.kernel_place import find_library

_MASKS = {"x86-64-v4": "", "x86-64-v3": "avx512", "x86-64": "plain"}

_TRANSFER = """
import hashlib, socket
from vantun.kernel_cache import use_kernel_cache
use_kernel_cache()
from drivers.kernel import library
from tests.unit.vantun.dataplane.test_tun_pump import ONE, OUTSIDE, PLAIN, Town, made
from vantun.dataplane.tun_pump import read_tun, write_tun
from vantun.dataplane.tun_sessions import TunSessions
from vantun.lab.packet_port import MemoryPacketPort
from vantun.lab.link import LinkProfile
from vantun.lab.transfer import start_transfer

seen = hashlib.sha256()
out, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for end in (out, device):
    end.settimeout(0)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
far = TunSessions()
far.use_device(device.fileno(), 0x7F, client=False, client_to_client=False)
far.set_routes(1, (OUTSIDE,), ())
def drain(self, index, now):
    context = self._plane.context
    return write_tun(context.tables.root, far.tables, 0, index, context.address, now)[1]
MemoryPacketPort.drain = drain
came = 0
town = Town()
network = town.network
def note(path, direction, data):
    seen.update(bytes([path, direction]) + bytes(data))
    return data
network.tamper = note
for path in (2, 3):
    network.add_path(path, LinkProfile(rate=50e6, delay=0.01, loss=0.03 * path, reorder=0.02, queue_bytes=1 << 18))
network.cut(1)
transfer = start_transfer(network, 1_500_000, 700_000)
for turn in range(30):
    for size in (60 + turn, 1400, 20_000 + turn, 21_000 + turn):
        town.far.send(PLAIN + made(ONE, size))
    read_tun(town.plane.context.tables.root, town.sessions.tables, town.now)
    town.plane.readable(town.port.handle)
    town.pass_time(0.05)
    try:
        while True:
            seen.update(out.recv(1 << 17))
            came += 1
    except BlockingIOError:
        pass
assert network.run(60.0, lambda: transfer.done(network))
transfer.check(network)
recovered = network.client.channel_total("rx_recovered") + network.server.channel_total("rx_recovered")
assert recovered > 0 and came > 60, (recovered, came)
town.close()
print(library().level, seen.hexdigest())
"""


def levels() -> list[str]:
    """Return the levels of this processor."""
    cpu = read_cpu(mask="")
    if cpu.machine != "x86_64":
        return []
    return list(_MASKS)[list(_MASKS).index(cpu.level) :]


def run(level: str, *command: str) -> str:
    """Run Python at a level, without a compiler; return what it wrote."""
    environment = dict(os.environ, VANTUN_KERNELS="native", VANTUN_CPU=_MASKS[level], PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(autouse=True)
def library() -> KernelLibrary:
    found = find_library()
    if not isinstance(found, KernelLibrary):
        pytest.skip(f"{found.reason}; {found.next_step}")
    return found


def test_data_planes_send_the_same_bytes_at_every_level() -> None:
    """Parity, repair, encryption, congestion control and pacing: one different bit or float, and packets differ."""
    found = [run(level, "-c", _TRANSFER).split() for level in levels()]
    assert [level for level, _ in found] == levels()
    assert len({digest for _, digest in found}) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("level", levels())
def test_engines_agree_with_the_reference(level: str) -> None:
    tests = [f"tests/engines/{name}" for name in ("test_aead.py", "test_fec.py", "test_fec_shapes.py")]
    said = run(level, "-m", "pytest", "-q", *tests, "-k", "simd")
    assert " passed" in said
