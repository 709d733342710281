"""The section ``metrics``: where Prometheus may fetch figures."""

from __future__ import annotations

from vantun.config_kinds import LISTEN
from vantun.config_yaml import Key

METRICS_KEYS = (
    Key(
        "metrics.listen",
        LISTEN,
        "Address and TCP port where Prometheus fetches `/metrics`; without it nothing listens. There is no password: "
        "keep it on the loopback or a management network.",
        "127.0.0.1:9465",
    ),
)
