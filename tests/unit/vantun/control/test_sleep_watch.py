"""Sleep is what the boot clock counts and the monotonic clock does not."""

from __future__ import annotations

from vantun.control.sleep_watch import SleepWatch


def test_sleep_is_told_once() -> None:
    monotonic, boottime = 100.0, 500.0
    watch = SleepWatch(lambda: monotonic, lambda: boottime)
    monotonic, boottime = 160.0, 560.0
    assert watch.slept() == 0.0
    monotonic, boottime = 161.0, 4161.0
    assert watch.slept() == 3600.0
    monotonic, boottime = 162.0, 4162.1
    assert watch.slept() == 0.0


def test_the_real_clocks_agree_while_nobody_sleeps() -> None:
    assert SleepWatch().slept() == 0.0
