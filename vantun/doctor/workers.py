"""How many data workers there will be and why that many, where each of them runs, and whether packets find them."""

from __future__ import annotations

import math

from drivers.linux.affinity import ANYWHERE, HERE, Place, System, plan_affinity, quota
from drivers.linux.reuseport import probe_steering
from vantun.config_life import LifeConfig
from vantun.control.worker_count import worker_count, worker_places
from vantun.doctor.finding import Finding, note, ok, warning


def data_workers(
    life: LifeConfig, system: System = HERE, lacks: str | None = None, alone: str | None = None, card: str = ""
) -> list[Finding]:
    """See what a start would make of `workers`.

    Parameters
    ----------
    system, lacks, alone
        This machine, why its kernel does not steer packets to workers, and why it has no port for several of them; None
        = it is asked.
    card
        The network card of all paths, empty if there are several.
    """
    lacks = probe_steering() if lacks is None else lacks
    cores = plan_affinity("auto", system=system)
    count, fewer = worker_count(life, cores, alone)
    findings = [_count(life, count, len(cores), fewer, system), _place(worker_places(life, count, system, card), card)]
    if lacks:
        step = "use Linux 4.5 or newer, outside of a sandbox; one worker needs no steering"
        said = lacks if count == 1 else f"{lacks}: workers hand over to each other what arrives at the wrong one"
        findings.append((note if count == 1 else warning)("steering", said, step))
    else:
        findings.append(ok("steering", "the kernel takes the program that steers packets to their worker"))
    return findings


def _count(life: LifeConfig, count: int, cores: int, fewer: str, system: System) -> Finding:
    granted = quota(system)
    held = "" if math.isinf(granted) else f", of which the control group grants {granted:g}"
    usable = f"{len(system.usable())} usable processors{held}"
    if fewer:
        return warning("workers", f"1 instead of several: {fewer}", "use Linux 3.9 or newer, or set workers: 1")
    if not life.workers:
        return ok("workers", f"{count}: auto, one for every two of {cores} cores ({usable})")
    if count > cores:
        step = f"workers: {cores}, or auto"
        return note("workers", f"{count} as configured, more than there are cores: {cores} ({usable})", step)
    return ok("workers", f"{count} as configured ({usable})")


def _place(places: list[Place], card: str) -> Finding:
    if all(place.cpu == ANYWHERE for place in places):
        return ok("workers run", f"wherever the kernel likes ({places[0].why})")
    shown = [
        f"{worker} on processor {place.cpu}" + ("" if place.node == ANYWHERE else f" (node {place.node})")
        for worker, place in enumerate(places)
    ]
    nodes = {place.node for place in places}
    said = ", ".join(shown) + (f"; {len(nodes)} NUMA nodes" if len(nodes) > 1 else "")
    said += f"; near {card}" if any("in the node of" in place.why for place in places) else ""
    shared = next((f"{number}: {place.why}" for number, place in enumerate(places) if "sibling" in place.why), "")
    if shared:
        return note("workers run", f"{said}; {shared}", "give fewer workers")
    return ok("workers run", said)
