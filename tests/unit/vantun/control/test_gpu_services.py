"""GPU services from the control process's side: a script stands for the service, and says what one says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from accel.engine import Operation
from drivers.errors import DriverError
from vantun import accel_known
from vantun.config_accel import AccelConfig
from vantun.control import gpu_service, gpu_services
from vantun.control.engine_care import EngineCare
from vantun.control.gpu_service import GpuService
from vantun.control.gpu_services import GpuServices

COUNTS = b'"devices": %d, "clients": 3, "jobs": 12, "launches": 4, "gather_us": 200}'
READY = b'{"ready": true, "kernels": ["the fast ones"], ' + COUNTS
LIVES = "import os, sys; os.write(int(sys.argv[2]), %r); os.read(int(sys.argv[2]), 1)"
FAILS = 'import os, sys; os.write(int(sys.argv[2]), b\'{"failed": "no device is there"}\'); sys.exit(1)'
STUCK = (
    "import os, sys, time; control = int(sys.argv[2]); os.write(control, %r); os.write(control, %r); time.sleep(600)"
)
DIES = "import sys; sys.exit(7)"


def script(text: str, place: str, control: int) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text, place, str(control)]


def lives(devices: int = 1) -> str:
    return LIVES % (READY % devices)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_one_that_is_killed_is_started_again_and_its_counts_go_on() -> None:
    async def test() -> None:
        changes: list[int] = []
        service = GpuService("cuda", 1, partial(script, lives()), lambda: changes.append(1))
        assert service.report()["state"] == "starting"
        await until(lambda: service.state == "serving")
        first = service.report()
        assert (first["clients"], first["jobs_per_launch"], first["restarts"]) == (3, 3.0, 0)
        assert first["kernels"] == ["the fast ones"]
        pid = first["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: service.state == "waiting")
        assert "SIGKILL" in service.reason
        assert service.report()["pid"] == 0
        assert not service.settled.is_set()
        await until(lambda: service.state == "serving")
        again = service.report()
        assert (again["jobs"], again["launches"], again["restarts"], again["reason"]) == (24, 8, 1, "")
        assert len(changes) == 2
        pid = again["pid"]
        await service.close()
        assert isinstance(pid, int)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(test)


def test_one_that_has_failed_and_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its device lets nobody close it; the next one is started all the same."""
    monkeypatch.setattr(gpu_service, "_GRACE", 0.05)

    async def test() -> None:
        service = GpuService("cuda", 0, partial(script, STUCK % (READY % 1, b'{"failed": "it hangs"}')), lambda: None)
        await until(lambda: service.state == "waiting")
        assert service.reason == "it hangs"
        await until(lambda: service.restarts == 1)
        await service.close()

    run(test)


@pytest.mark.parametrize(("text", "reason"), [(FAILS, "no device is there"), (DIES, "it exited with status 7")])
def test_one_that_was_never_ready_is_given_up(text: str, reason: str) -> None:
    async def test() -> None:
        service = GpuService("cuda", 0, partial(script, text), lambda: None)
        await service.settled.wait()
        assert (service.state, service.reason, service.restarts) == ("failed", reason, 0)
        await service.close()

    run(test)


def test_one_that_cannot_be_started() -> None:
    async def test() -> None:
        service = GpuService("cuda", 0, lambda _place, _control: ["/nonexistent/python"], lambda: None)
        await service.settled.wait()
        assert service.state == "failed"
        assert "No such file" in service.reason
        await service.close()

    run(test)


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> dict[str, frozenset[Operation]]:
    """Return what is wanted; it may be changed. ``cuda`` has two devices, ``opencl`` fails."""
    found = {"cuda": frozenset({Operation.FEC_ENCODE})}
    commands = {"cuda": lives(2), "opencl": FAILS}
    monkeypatch.setattr(accel_known, "wanted_services", lambda _config: found)
    monkeypatch.setattr(
        gpu_services,
        "_command",
        lambda engine, device, operations, gather_us, place, control: script(commands[engine], place, control),
    )
    return found


def test_one_device_that_does_not_start_takes_no_other_with_it(
    wanted: dict[str, frozenset[Operation]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of three says how many there are before it fails."""
    fails = FAILS.replace('is there"}', 'is there", "devices": 3}')

    def command(_engine: str, device: int, _operations: str, _gather: int, place: str, control: int) -> list[str]:
        return script(lives(3) if device else fails, place, control)

    async def test() -> None:
        services = GpuServices(AccelConfig(), lambda: None)
        monkeypatch.setattr(gpu_services, "_command", command)
        await services.start()
        assert [each["state"] for each in services.report()] == ["failed", "serving", "serving"]
        assert len(services.offers()["cuda"]) == 2
        await services.close()

    run(test)


def test_what_a_device_does_not_copy_itself_is_told(wanted: dict[str, frozenset[Operation]]) -> None:
    async def test() -> None:
        text = LIVES % (READY % 1).replace(b'"devices"', b'"pinned": 2, "copied_because": "no room", "devices"')
        service = GpuService("cuda", 0, partial(script, text), lambda: None)
        await until(lambda: service.state == "serving")
        services = GpuServices(AccelConfig(), lambda: None)
        services._services["cuda", 0] = service
        assert services.report()[0]["pinned"] == 2
        assert services.fallbacks() == [
            {"what": "one more copy in the GPU service of cuda, device 0", "reason": "no room"}
        ]
        await services.close()

    run(test)


def test_there_is_one_for_each_device(wanted: dict[str, frozenset[Operation]]) -> None:
    async def test() -> None:
        changes: list[int] = []
        services = GpuServices(AccelConfig(), lambda: changes.append(1))
        wanted["opencl"] = frozenset({Operation.AEAD_SEAL})
        await services.start()
        await services.start()
        assert [(each["engine"], each["device"]) for each in services.report()] == [
            ("cuda", 0),
            ("cuda", 1),
            ("opencl", 0),
        ]
        places = services.offers()["cuda"]
        assert len(set(places)) == 2
        assert list(services.offers()) == ["cuda"]
        assert services.fallbacks() == [{"what": "no GPU service of opencl, device 0", "reason": "no device is there"}]
        assert changes == []  # whoever has started them knows
        pid = services.report()[0]["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: services.report()[0]["state"] == "waiting")
        assert services.offers()["cuda"] == places[1:]
        await services.settle()
        assert services.offers()["cuda"] == places
        assert changes == [1]
        await services.close()
        assert services.offers() == {}

    run(test)


def test_none_where_none_is_wanted_or_nobody_knows_what(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_config: AccelConfig) -> dict[str, frozenset[Operation]]:
        raise DriverError("accel.fec: cannot be read")

    async def test() -> None:
        for config in (AccelConfig(service="off"), AccelConfig()):
            services = GpuServices(config, lambda: None)
            await services.start()
            await services.settle()
            assert services.report() == []
            await services.close()

    monkeypatch.setattr(accel_known, "wanted_services", unreadable)
    run(test)


def test_a_gpu_that_measures_best_gets_its_service_before_workers_hear_of_it(
    wanted: dict[str, frozenset[Operation]],
) -> None:
    async def test() -> None:
        found = dict(wanted)
        wanted.clear()
        seen: list[dict[str, tuple[str, ...]]] = []
        care = EngineCare(AccelConfig(), lambda: seen.append(care.services.offers()))
        await care.services.start()
        assert care.report()["gpu_services"] == []
        wanted.update(found)
        care._measured()
        await until(lambda: bool(seen))
        assert len(seen[-1]["cuda"]) == 2
        await care.close()

    run(test)


def test_the_command_line_is_one_that_the_service_reads() -> None:
    line = gpu_services._command("pocl", 0, "fec.encode", 150, "@x", 9)
    assert line[-4:] == ["--control", "9", "--parent", str(os.getpid())]
    assert line[line.index("--gather-us") + 1] == "150"
