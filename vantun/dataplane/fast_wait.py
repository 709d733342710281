"""The clock of turns without Python, and what lies between two of them: a rest, a watch, a sleep."""

from __future__ import annotations

from drivers.kernel import kernel
from drivers.linux.wait_kernel import monotonic, ready_events, rest, wait_events, watch_events
from vantun.dataplane.fast_state import (
    EPOLL,
    IDLE,
    LAST,
    LOST_TIME,
    MEANT,
    NOTHING_DONE,
    OTHER_DUE,
    PLANE_DUE,
    TURN_AT,
    FastPath,
)
from vantun.dataplane.wake import PATIENT_FOR, REST, SPIN_FOR, TAKEN


@kernel
def tell_time(f: FastPath) -> float:
    """Return the time as the loop's clock has it."""
    f.times[LAST] = monotonic(f.words)
    return float(f.times[LAST] - f.times[LOST_TIME])


@kernel
def await_events(f: FastPath) -> tuple[int, float]:
    """Rest, then sleep until a descriptor or a timer; return (events, seconds that others had the core meanwhile)."""
    if f.wake[REST] > 0.0:
        f.times[MEANT] = f.wake[REST]
        rest(f.words, f.wake[REST])
    due = f.times[PLANE_DUE]
    if f.wake[PATIENT_FOR] > 0.0:
        due = max(due, f.times[TURN_AT] + f.wake[PATIENT_FOR])
    due = min(due, f.times[OTHER_DUE])
    left = max(due - tell_time(f), NOTHING_DONE if f.state[IDLE] > 1 else 0.0)
    f.times[MEANT] = left
    away, epoll = 0.0, f.state[EPOLL]
    if f.wake[REST] > 0.0:
        found = ready_events(epoll, f.events)
        if found > 0:
            return found, away
    if f.wake[SPIN_FOR] > 0.0:
        before = f.times[LAST]
        found, away = watch_events(epoll, f.events, f.words, min(f.wake[SPIN_FOR], left), TAKEN)
        if found > 0:
            return found, away
        left = max(left - (monotonic(f.words) - before), 0.0)
    if left <= 0.0:
        return ready_events(epoll, f.events), away
    return wait_events(epoll, f.events, f.words, left), away
