"""Every verdict of ``vantun top`` from the documents that call for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.vantun.cli.top_documents import Status, later, spend, status
from vantun.cli.top_limits import Limit, findings, limits

MANY, FEW = 40e6, 2e6


def busy(after: Status, share: float, wait: float = 0.0) -> None:
    """Have the worker use, and wait for, the processor so much of the second."""
    after["worker"]["cpu_s"] += share
    after["worker"]["cpu_system_s"] += share / 2
    after["worker"]["cpu_wait_s"] += wait


def sealing(after: Status) -> None:
    busy(after, 0.95)
    spend(after, "seal", 0.6)


def out_of_stages(after: Status) -> None:
    busy(after, 0.95)
    spend(after, "seal", 0.2)


def refilling(after: Status) -> None:
    busy(after, 0.95)
    spend(after, "refill", 0.7)
    after["stages"][4]["calls"] += 2000


def sealing_by_a_spare(after: Status) -> None:
    sealing(after)
    after["engine_watch"][0].update(engine="openssl", wanted="simd", fallback=True, reason="a wrong result")


def crowded(after: Status) -> None:
    busy(after, 0.4, wait=0.5)


def asleep_in_a_device(after: Status) -> None:
    busy(after, 0.2)
    spend(after, "encode", 0.9)


def full_window(after: Status) -> None:
    after["channels"][0]["queued"] = 50
    after["lanes"][0].update(limited=True, in_flight=299_000)


def paced(after: Status) -> None:
    after["channels"][0]["queued"] = 50
    after["lanes"][0].update(limited=True, in_flight=100_000)


def paced_says_an_older_one(after: Status) -> None:
    paced(after)
    del after["lanes"][0]["limited"]


def capped(after: Status) -> None:
    paced(after)
    after["lanes"][0]["rate_cap_bps"] = 50_000_000


def brutal(after: Status) -> None:
    paced(after)
    after["lanes"][0]["control"] = "brutal"


def overflowing(after: Status) -> None:
    after["udp"][0]["kernel_dropped"] = 200


def blocking(after: Status) -> None:
    spend(after, "seal", 0.1)
    after["udp"][0].update(would_block=40, no_buffer=40)


def unroutable(after: Status) -> None:
    after["udp"][0]["dropped"] = {"ENETUNREACH": 300, "EPERM": 2}


def metered(after: Status) -> None:
    after["users"][0].update(sent_bytes=5_000_000, send_limit_bps=41_000_000)


def out_of_rows(after: Status) -> None:
    after["pool"]["rows_free"] = 0
    after["drops"]["no_row"] = 7


def hoarding(after: Status) -> None:
    after["flows"]["starved"] = 2


def unread(after: Status) -> None:
    after["flows"]["blocked"] = 1


def nothing(_after: Status) -> None:
    return


VERDICTS: list[tuple[Callable[[Any], None], Limit, str, str, str]] = [
    (sealing, Limit.WORKER, "seal", "busy 95 % of the time, and stage seal takes 63 % of that", "accel bench aead"),
    (refilling, Limit.WORKER, "refill", "stage refill takes 74 %", "larger writes"),
    (out_of_stages, Limit.WORKER, "sockets and loop", "50 % of it in the kernel; 79 % go to", "segmentation offload"),
    (sealing_by_a_spare, Limit.WORKER, "seal", "stage seal", "openssl serves instead of simd (a wrong result)"),
    (crowded, Limit.MACHINE, "processors", "40 % of the time, and waited for one 50 %", "stop what else runs"),
    (asleep_in_a_device, Limit.DEVICE, "encode", "90 % of the time in stage encode", "its engine simd"),
    (out_of_rows, Limit.BUFFERS, "rows", "0 packet buffers are free, 7.0 packets/s", "--flows"),
    (overflowing, Limit.RECEIVE_BUFFER, "UDP socket", "dropped 200.0 packets/s", "net.core.rmem_max"),
    (unroutable, Limit.NOT_SENT, "ENETUNREACH", "refused 302.0 packets/s", "routes"),
    (blocking, Limit.SEND_BUFFER, "UDP socket", "full 80.0 times a second", "net.core.wmem_max"),
    (metered, Limit.USER_RATE, "alice", "40.0 Mbit/s to alice, whose limit is 41.0 Mbit/s", "vantun reload"),
    (full_window, Limit.WINDOW, "dsl of alice", "299.0 kB of its window of 300.0 kB are in flight", "another path"),
    (
        paced,
        Limit.RATE,
        "dsl of alice",
        "40.0 Mbit/s leave on dsl, 50 shards wait: packets are paced at 50.0",
        "`bandwidth`",
    ),
    (paced_says_an_older_one, Limit.RATE, "dsl of alice", "paced at 50.0 Mbit/s", "another path"),
    (capped, Limit.CAP, "dsl of alice", "its rate is configured as 50.0 Mbit/s", "raise `bandwidth`"),
    (brutal, Limit.CAP, "dsl of alice", "its rate is configured", "raise `bandwidth`"),
    (unread, Limit.NEAR_PROGRAM, "programs here", "1 of 3 flows", "the program"),
    (hoarding, Limit.FAR_PROGRAM, "programs there", "2 of 3 flows have bytes to send", "that end"),
    (nothing, Limit.PROGRAMS, "programs here", "40.0 Mbit/s leave", "send no more"),
]


@pytest.mark.parametrize(
    ("event", "limit", "subject", "reason", "step"), VERDICTS, ids=[event.__name__ for event, *_ in VERDICTS]
)
def test_the_limit_has_a_name_a_reason_and_a_next_step(
    event: Callable[[Any], None], limit: Limit, subject: str, reason: str, step: str
) -> None:
    before = status()
    after = later(before, out_bps=MANY, in_bps=FEW)
    event(after)
    found = limits(before, after, 1.0)
    assert (found.limit, found.subject) == (limit, subject)
    assert reason in found.reason
    assert step in found.next_step


def test_what_arrives_and_waits_for_nothing_here_is_limited_at_the_other_end() -> None:
    before = status("client")
    found = limits(before, later(before, out_bps=FEW, in_bps=MANY), 1.0)
    assert found.limit is Limit.OTHER_END
    assert "run `vantun top` there" in found.next_step


def test_silence_is_idle() -> None:
    before = status()
    assert limits(before, later(before, out_bps=2000), 1.0).limit is Limit.IDLE


def test_a_busy_worker_explains_what_its_sockets_drop() -> None:
    before = status()
    after = later(before, out_bps=MANY, in_bps=FEW)
    for event in (overflowing, sealing, full_window):
        event(after)
    said = [found.limit for found in findings(before, after, 1.0)]
    assert said == [Limit.WORKER, Limit.RECEIVE_BUFFER, Limit.WINDOW]


def test_a_few_drops_and_rare_waits_are_no_limit() -> None:
    before = status()
    after = later(before, out_bps=MANY, in_bps=MANY)
    after["udp"][0].update(kernel_dropped=1, would_block=1, dropped={"EPERM": 1})
    spend(after, "seal", 0.1)
    assert limits(before, after, 1.0).limit is Limit.PROGRAMS


def test_a_lane_that_waited_once_while_little_was_sent_is_not_full() -> None:
    before = status()
    after = later(before, out_bps=FEW)
    after["lanes"][0]["limited"] = True
    assert limits(before, after, 1.0).limit is Limit.PROGRAMS


def test_of_several_full_paths_some_are_named() -> None:
    before = status()
    lane = before["lanes"][0]
    before["lanes"] += [{**lane, "path": n, "name": f"lte{n}", "user": ""} for n in range(1, 8)]
    after = later(before, out_bps=MANY)
    paced(after)
    for row in after["lanes"][1:]:
        row["limited"] = True
    assert limits(before, after, 1.0).subject == "dsl of alice, lte1, lte2 and 5 more"


def test_without_an_active_path_the_reasons_are_given() -> None:
    before = status("client")
    before["lanes"] = []
    before["paths"] = [{"name": "lte", "state": "waiting", "reason": "no answer"}]
    found = limits(before, later({**before, "lanes": status()["lanes"]}) | {"lanes": []}, 1.0)
    assert found.limit is Limit.PATH_DOWN
    assert "lte: no answer" in found.reason
    suspect = status()
    suspect["lanes"][0]["state"] = "suspect"
    assert "dsl: suspect" in limits(suspect, suspect, 1.0).reason


def test_a_server_without_clients_is_idle() -> None:
    alone = {**status(), "lanes": []}
    found = limits(alone, alone, 1.0)
    assert (found.limit, found.subject) == (Limit.IDLE, "clients")


def test_a_dead_worker_is_said_with_the_reason() -> None:
    before = status()
    dead = {"role": "server", "pid": 10, "workers": {"deaths": 1, "last_death": "it was killed by SIGKILL"}}
    found = limits(before, dead, 1.0)
    assert found.limit is Limit.UNKNOWN
    assert "it was killed by SIGKILL" in found.reason
    assert "no sample before" in limits(dead, before, 1.0).reason


def test_a_replaced_worker_and_a_restarted_appliance_are_said_first() -> None:
    before = status()
    after = later(before, out_bps=MANY)
    after["worker"] = {**after["worker"], "pid": 12, "cpu_s": 0.3}
    after["workers"]["last_death"] = "it was killed by SIGKILL"
    found = limits(before, after, 1.0)
    assert (found.limit, found.subject) == (Limit.RESTART, "worker")
    assert "SIGKILL" in found.reason
    after["pid"] = 20
    assert limits(before, after, 1.0).subject == "appliance"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(0, 1e9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(status()["lanes"][0])), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(status())), JSON), st.floats(-1, 5))
@example({}, 2.2e-311)
def test_no_document_breaks_it(odd: dict[str, object], seconds: float) -> None:
    for before, after in (({**status(), **odd}, status()), (status(), {**status(), **odd}), (odd, odd)):
        assert findings(before, after, seconds)[0].next_step
