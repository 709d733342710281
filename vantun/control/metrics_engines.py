"""Engines as metrics: who serves, how they are, and what their watch has found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

_ROWS = ("redone", "audited", "mismatched", "confirmed", "disputed", "lost")
_STATES = {"serving": 2.0, "suspect": 1.0}
"""Everything else is 0."""


def engines(document: Mapping[str, object]) -> Iterator[Metric]:
    """Yield everything about engines. Labels are bounded: operations, engines of the catalogue, causes."""
    family = InfoMetricFamily("vantun_engine", "The engine that serves an operation.", labels=("kind", "name"))
    named = document.get("engines")
    for kind, name in named.items() if isinstance(named, Mapping) else ():
        family.add_metric((str(kind), str(name)), {})
    yield family
    watch = _maps(document.get("engine_watch"))
    rows = CounterMetricFamily(
        "vantun_engine_rows", "Packets and spans by what the watch over engines did.", labels=("kind", "outcome")
    )
    fallback = GaugeMetricFamily(
        "vantun_engine_fallback", "Whether another engine serves than the one chosen.", labels=("kind",)
    )
    for serving in watch:
        kind = str(serving.get("operation"))
        for name in _ROWS:
            rows.add_metric((kind, name), _number(serving, name))
        fallback.add_metric((kind,), float(bool(serving.get("fallback"))))
    yield rows
    yield fallback
    yield from _rungs(watch)
    yield from _services(_maps(document.get("gpu_services")))


def _services(services: list[Mapping[str, object]]) -> Iterator[Metric]:
    labels = ("name", "device")
    up = GaugeMetricFamily("vantun_gpu_service_up", "Whether a GPU service serves.", labels=labels)
    clients = GaugeMetricFamily("vantun_gpu_service_clients", "Sessions of data workers at it.", labels=labels)
    jobs = CounterMetricFamily("vantun_gpu_service_batches", "Batches that data workers gave it.", labels=labels)
    launches = CounterMetricFamily("vantun_gpu_service_launches", "Launches that it made of them.", labels=labels)
    restarts = CounterMetricFamily("vantun_gpu_service_restarts", "How often it was started again.", labels=labels)
    for each in services:
        names = str(each.get("engine")), str(each.get("device"))
        up.add_metric(names, float(each.get("state") == "serving"))
        for family, name in ((clients, "clients"), (jobs, "jobs"), (launches, "launches"), (restarts, "restarts")):
            family.add_metric(names, _number(each, name))
    if services:
        yield from (up, clients, jobs, launches, restarts)


def _rungs(watch: list[Mapping[str, object]]) -> Iterator[Metric]:
    labels = ("kind", "name")
    state = GaugeMetricFamily("vantun_engine_state", "2 = serving, 1 = suspect, 0 = out.", labels=labels)
    slow = GaugeMetricFamily("vantun_engine_slowness_ratio", "Time of a batch over the calibrated one.", labels=labels)
    late = GaugeMetricFamily("vantun_engine_late_tickets", "Jobs that never came back from a device.", labels=labels)
    full = CounterMetricFamily("vantun_engine_full", "Batches that a full device did not take.", labels=labels)
    failures = CounterMetricFamily("vantun_engine_failures", "Failures, by cause.", labels=(*labels, "cause"))
    for serving in watch:
        for rung in _maps(serving.get("rungs")):
            names = str(serving.get("operation")), str(rung.get("engine"))
            state.add_metric(names, _STATES.get(str(rung.get("state")), 0.0))
            slow.add_metric(names, _number(rung, "slowness"))
            late.add_metric(names, _number(rung, "late"))
            full.add_metric(names, _number(rung, "full"))
            causes = rung.get("failures")
            for cause in causes if isinstance(causes, Mapping) else ():
                failures.add_metric((*names, str(cause)), _number(causes, cause))
    yield from (state, slow, late, full, failures)


def _maps(value: object) -> list[Mapping[str, object]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _number(row: object, name: object) -> float:
    value = row.get(name) if isinstance(row, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
