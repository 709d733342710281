"""How many data workers a machine is good for, and which processor each of them keeps to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from drivers.linux.affinity import ANYWHERE, HERE, Place, System, pin, plan_affinity
from drivers.linux.reuseport import probe_sharing
from vantun.config import ClientConfig, ServerConfig
from vantun.config_life import MOST_AUTO, LifeConfig
from vantun.control.worker_card import card_of

log = logging.getLogger(__name__)


def worker_count(life: LifeConfig, places: Sequence[Place] | None = None, lacks: str | None = None) -> tuple[int, str]:
    """Return the number of workers, and why there is only one although more were wanted (empty if not).

    Parameters
    ----------
    places, lacks
        What this machine has; None = it is asked.
    """
    cores = len(plan_affinity("auto") if places is None else places)
    wanted = life.workers or max(1, min(cores // 2, MOST_AUTO))
    if wanted == 1:
        return 1, ""
    reason = probe_sharing() if lacks is None else lacks
    return (1, reason) if reason else (wanted, "")


def worker_places(life: LifeConfig, workers: int, system: System = HERE, card: str = "") -> list[Place]:
    """Return where each worker is to run, near the network card ``card``; ANYWHERE = wherever the kernel likes."""
    if life.pin is False or (life.pin is None and workers == 1):
        return [Place(ANYWHERE, ANYWHERE, "workers.pin")] * workers
    return plan_affinity(workers, card, system)


def places_of(config: ServerConfig | ClientConfig, workers: int) -> list[Place]:
    """Return where each worker of an appliance is to run on this machine."""
    return worker_places(config.life, workers, card=card_of(config))


class Pins:
    """Ties workers to their places."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def settle(self, worker: int, pid: int) -> None:
        """Have a process (0 = none) run at the place of a worker; one that may not runs anywhere: that is logged."""
        if worker < len(self._places) and pid:
            refusal = pin(pid, self._places[worker].cpu)
            if refusal:
                log.warning("data worker %d runs anywhere: %s", worker, refusal)
