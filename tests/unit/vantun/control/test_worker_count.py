"""How many workers there are, and where they run."""

from __future__ import annotations

import pytest

from drivers.linux.affinity import ANYWHERE, Place
from vantun.config_kinds import Kind
from vantun.config_life import LIFE_KEYS, LifeConfig
from vantun.control.worker_count import worker_count, worker_places

REASON = "the kernel has no SO_REUSEPORT: no"


def cores(count: int) -> list[Place]:
    return [Place(cpu, 0, "") for cpu in range(count)]


@pytest.mark.parametrize(("usable", "workers"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (64, 16)])
def test_auto_leaves_half_of_the_cores_to_programs_and_kernel(usable: int, workers: int) -> None:
    assert worker_count(LifeConfig(), cores(usable), "") == (workers, "")


def test_a_number_is_what_was_asked_for_unless_the_kernel_does_not_share_a_port() -> None:
    assert worker_count(LifeConfig(workers=5), cores(1), "") == (5, "")
    assert worker_count(LifeConfig(workers=5), cores(8), REASON) == (1, REASON)
    assert worker_count(LifeConfig(workers=1), cores(8), REASON) == (1, "")


def test_several_workers_have_a_place_each_unless_they_may_not() -> None:
    assert worker_places(LifeConfig(), 1)[0].cpu == ANYWHERE
    assert [place.cpu for place in worker_places(LifeConfig(pin=False), 3)] == [ANYWHERE] * 3
    assert worker_places(LifeConfig(pin=True), 1)[0].cpu != ANYWHERE
    assert len(worker_places(LifeConfig(), 2)) == 2


def parsed(key: str, text: str) -> object:
    kind = next(each.kind for each in LIFE_KEYS if each.name == key)
    assert isinstance(kind, Kind)
    return kind.parse(text)


def test_the_keys_of_the_file() -> None:
    assert [parsed("workers.count", text) for text in ("auto", "1", "64")] == [0, 1, 64]
    assert [parsed("workers.pin", text) for text in ("auto", "on", "off")] == [None, True, False]
    for key, text in (("workers.count", "0"), ("workers.count", "65"), ("workers.count", "-1"), ("workers.pin", "1")):
        with pytest.raises(ValueError, match=r"^$"):
            parsed(key, text)
