"""The nursery, in a process of its own: one that is forked from pytest would have all that pytest has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
_START = """
import asyncio, contextlib, json, os, signal, socket, sys
from vantun.control.nursery import Nursery

def told(**facts):
    print(json.dumps(facts), flush=True)

def shared(pid):
    lines = open(f"/proc/{pid}/smaps_rollup").read().splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:] if line.endswith("kB")}
    return kb["Private_Dirty"], kb["Rss"]

def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

async def gone(find, *expected):
    for _ in range(1000):
        if find() in expected:
            return True
        await asyncio.sleep(0.01)
    return False

with Nursery.plant("vantun.control.server") as nursery:
    from vantun.control.lane_keeper import FloorPage
    from vantun.worker_messages import MAX_MESSAGE, Failed, decode
    page = FloorPage()

    def bear():
        return nursery.bear(page.page.fd, page.page.fd)
"""


def run(scenario: str) -> list[dict[str, Any]]:
    """Run the body of a coroutine that sees ``nursery``; return what it told."""
    body = textwrap.indent("async def scenario():\n" + textwrap.indent(textwrap.dedent(scenario), "    "), "    ")
    script = f"{_START}\n{body}\n    asyncio.run(scenario())\n"
    # native: the rehearsal ends at once where there is no library, instead of compiling for minutes
    environment = {**os.environ, "VANTUN_KERNELS": "native", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_worker_is_a_child_of_the_control_process_and_shares_its_memory() -> None:
    (told,) = run("""
        process, sock = await bear()
        dirty, resident = shared(process.pid)
        told(parent=parent(process.pid), me=os.getpid(), nursery=nursery.pid, dirty=dirty, resident=resident)
        sock.close()
        assert await gone(process.poll, 0)
    """)
    assert told["parent"] == told["me"] != told["nursery"]
    assert told["dirty"] < told["resident"] / 4, "kB of its own: a process that was started anew has nearly all"


def test_a_worker_hears_and_answers() -> None:
    (told,) = run("""
        process, sock = await bear()
        sock.send(b"no message")
        answer = decode(sock.recv(MAX_MESSAGE))
        told(failed=isinstance(answer, Failed), names=open(f"/proc/{process.pid}/comm").read())
        assert await gone(process.poll, 1)
    """)
    assert told == {"failed": True, "names": "vantun-worker\n"}


def test_workers_survive_the_nursery_and_the_next_is_refused() -> None:
    (told,) = run("""
        process, sock = await bear()
        os.kill(nursery.pid, signal.SIGKILL)
        assert await gone(lambda: nursery.pid, 0)
        try:
            await bear()
        except Exception as error:
            told(alive=process.poll() is None, error=str(error))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    """)
    assert told == {"alive": True, "error": "the nursery of data workers has ended"}


def test_a_question_that_was_given_up_leaves_no_process() -> None:
    (told,) = run("""
        first = asyncio.create_task(bear())
        await asyncio.sleep(0)
        first.cancel()
        second, sock = await bear()
        found = open(f"/proc/self/task/{os.getpid()}/children").read().split()
        told(children=sorted(map(int, found)) == sorted([nursery.pid, second.pid]))
        sock.close()
        assert await gone(second.poll, 0)
    """)
    assert told == {"children": True}


def test_a_nursery_that_does_not_answer_is_ended() -> None:
    (told,) = run("""
        process, sock = await bear()
        process.kill()
        os.kill(nursery.pid, signal.SIGSTOP)
        nursery._patience = 0.05
        try:
            await bear()
        except Exception as error:
            told(error=str(error), nursery=nursery.pid)
    """)
    assert told == {"error": "the nursery of data workers did not answer", "nursery": 0}


def test_a_worker_shares_no_socket_with_other_processes() -> None:
    (told,) = run("""
        def sockets(pid):
            found = set()
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):  # of the listing itself
                    found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            return {link for link in found if link.startswith("socket:")}

        secret = socket.socketpair()  # what the control process opens after the fork
        process, sock = await bear()
        def common():
            return len(sockets(process.pid) & (sockets(os.getpid()) | sockets(nursery.pid)))

        assert sockets(process.pid)
        told(none=await gone(common, 0))  # the nursery may not have closed its own yet
        process.kill()
    """)
    assert told == {"none": True}


def test_nothing_is_left_when_the_control_process_is_killed() -> None:
    scenario = """
        process, sock = await bear()
        told(pids=[nursery.pid, process.pid])
        os.kill(os.getpid(), signal.SIGSTOP)
    """
    body = textwrap.indent("async def scenario():\n" + textwrap.indent(textwrap.dedent(scenario), "    "), "    ")
    script = f"{_START}\n{body}\n    asyncio.run(scenario())\n"
    environment = {**os.environ, "VANTUN_KERNELS": "native", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as control:
        assert control.stdout is not None
        pids = json.loads(control.stdout.readline())["pids"]
        control.kill()
    deadline = time.monotonic() + 20.0
    while any(map(_lives, pids)):
        assert time.monotonic() < deadline, f"one of {pids} is left"
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"])
def test_the_environment_is_left_as_it_was(name: str) -> None:
    (told,) = run(f"""
        told(value=os.environ.get({name!r}), threads=len(os.listdir("/proc/self/task")))
    """)
    assert told == {"value": os.environ.get(name), "threads": 1}
