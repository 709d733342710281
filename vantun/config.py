"""Typed configuration of a server and of a client.

`load_server` and `load_client` read a file against the table of :mod:`vantun.config_schema`, then check what keys say
together, and return frozen dataclasses. Every problem that is found is reported at once, with its line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from vantun.acl import AccessList, Guard
from vantun.config_accel import DEFAULT_ACCEL, AccelConfig
from vantun.config_acl import read_acl
from vantun.config_auth import AuthConfig, auth_of, check_auth
from vantun.config_forwards import ForwardsConfig, ListenRule, read_forwards, read_reverse_allow
from vantun.config_kinds import Endpoint
from vantun.config_life import DEFAULT_LIFE, LifeConfig, life_config
from vantun.config_masquerade import MasqueradeConfig, check_masquerade, masquerade_of
from vantun.config_mtu import MAX_MTU
from vantun.config_paths import MultipathConfig, PathConfig, read_multipath, read_paths
from vantun.config_proxies import HttpConfig, Socks5Config, read_http, read_socks5
from vantun.config_said import Said, needs
from vantun.config_schema import (
    CLIENT_KEYS,
    DEFAULT_LISTEN,
    DEFAULT_MEMORY,
    DEFAULT_RESIDUAL_LOSS,
    SERVER_KEYS,
    Role,
)
from vantun.config_servers import ClientTlsConfig, ServerEntry, read_servers
from vantun.config_tun import ClientTunConfig, ServerTunConfig, read_client_tun, read_server_tun
from vantun.config_users import SESSIONS_PER_USER, UserRates, read_rates
from vantun.config_yaml import missing_keys, read_values
from vantun.errors import ConfigError, Problem

__all__ = [
    "AccelConfig",
    "AuthConfig",
    "BandwidthConfig",
    "ClientConfig",
    "ClientTlsConfig",
    "CongestionConfig",
    "Endpoint",
    "FecConfig",
    "HttpConfig",
    "MasqueradeConfig",
    "MultipathConfig",
    "PathConfig",
    "ServerConfig",
    "ServerEntry",
    "ServerTlsConfig",
    "Socks5Config",
    "default_status_socket",
    "load_client",
    "load_server",
]


@dataclass(frozen=True)
class BandwidthConfig:
    """Configured rates in bit/s as this end sees them; 0 = not configured."""

    up: int = 0
    down: int = 0


@dataclass(frozen=True)
class CongestionConfig:
    """How fast to send."""

    type: Literal["bbr", "brutal"] = "bbr"


@dataclass(frozen=True)
class FecConfig:
    """Whether to send parity, the fraction of packets that may stay lost, and how much parity there is in any case."""

    enabled: bool = True
    residual_loss: float = DEFAULT_RESIDUAL_LOSS
    overhead: float = 0.0
    """Standing parity at least, as a share of the data."""


@dataclass(frozen=True)
class ServerTlsConfig:
    """Certificate chain and private key, PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class ServerConfig:
    """Everything in server.yaml. ``listen.host`` is empty for every local address."""

    tls: ServerTlsConfig
    auth: AuthConfig
    listen: Endpoint = DEFAULT_LISTEN
    masquerade: MasqueradeConfig = field(default_factory=MasqueradeConfig)
    bandwidth: BandwidthConfig = BandwidthConfig()
    congestion: CongestionConfig = CongestionConfig()
    fec: FecConfig = FecConfig()
    accel: AccelConfig = DEFAULT_ACCEL
    log_level: str = "info"
    log_format: str = "text"
    status_socket: Path | None = None
    """None = :func:`default_status_socket`."""
    memory: int = DEFAULT_MEMORY
    """Bytes for packet buffers."""
    mtu: int = MAX_MTU
    """The largest UDP payload that is searched for on a client's path."""
    metrics: Endpoint | None = None
    """Where Prometheus fetches figures; None = nowhere."""
    acl: AccessList = field(default_factory=AccessList)
    reverse_allow: dict[str, tuple[ListenRule, ...]] = field(default_factory=dict)
    """What each user (``*`` = everybody) may have the server listen on."""
    tun: ServerTunConfig | None = None
    life: LifeConfig = DEFAULT_LIFE
    rates: dict[str, UserRates] = field(default_factory=dict)
    """What single users may move."""
    sessions_per_user: int = SESSIONS_PER_USER
    speed_test: bool = True
    """Whether users may measure the tunnel."""


@dataclass(frozen=True)
class ClientConfig:
    """Everything in client.yaml, and in the link that it may hold."""

    server: Endpoint
    auth: str = field(repr=False)
    paths: tuple[PathConfig, ...]
    """Names are different; at least one, unless the system's interfaces are used."""
    tls: ClientTlsConfig = field(default_factory=ClientTlsConfig)
    multipath: MultipathConfig = field(default_factory=MultipathConfig)
    servers: tuple[ServerEntry, ...] = ()
    """All servers, the one that ``server``, ``auth`` and ``tls`` are of included; empty = there is only that."""
    socks5: Socks5Config | None = field(default_factory=Socks5Config)
    http: HttpConfig | None = None
    forwards: ForwardsConfig = field(default_factory=ForwardsConfig)
    bandwidth: BandwidthConfig = BandwidthConfig()
    congestion: CongestionConfig = CongestionConfig()
    fec: FecConfig = FecConfig()
    accel: AccelConfig = DEFAULT_ACCEL
    log_level: str = "info"
    log_format: str = "text"
    status_socket: Path | None = None
    """None = :func:`default_status_socket`."""
    memory: int = DEFAULT_MEMORY
    """Bytes for packet buffers."""
    metrics: Endpoint | None = None
    """Where Prometheus fetches figures; None = nowhere."""
    acl: AccessList = field(default_factory=lambda: AccessList(guard=Guard.NONE))
    tun: ClientTunConfig | None = None
    life: LifeConfig = DEFAULT_LIFE


def default_status_socket(role: Role) -> Path:
    """Return where an appliance of ``role`` listens for `vantun status` when its file does not say."""
    service = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]  # systemd's, for a unit that has one
    if service:
        return Path(service) / f"{role}.sock"
    if os.geteuid() == 0:
        return Path("/run/vantun") / f"{role}.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/vantun-{os.geteuid()}"
    return Path(runtime) / "vantun" / f"{role}.sock"


def load_server(path: str | Path) -> ServerConfig:
    """Read server.yaml. Raises ConfigError with every problem of the file."""
    source = Path(path)
    values, problems = read_values(source, SERVER_KEYS)
    problems += missing_keys(values, SERVER_KEYS)
    said = Said(values, source.parent)
    problems += check_auth(said) + check_masquerade(said)
    acl, acl_problems = read_acl(values, source.parent, Guard.ALL)
    tun, tun_problems = read_server_tun(said)
    rates, rate_problems = read_rates(said)
    problems += acl_problems + tun_problems + rate_problems + _check_fec(said)
    if said.get("congestion.type", "bbr") == "brutal" and "bandwidth.up" not in values.line:
        problems.append(needs(said, "congestion.type", "brutal needs bandwidth.up, the rate to send at"))
    if problems:
        raise ConfigError(source, problems)
    return ServerConfig(
        listen=said.get("listen", DEFAULT_LISTEN),
        tls=ServerTlsConfig(cert=said.path("tls.cert"), key=said.path("tls.key")),
        auth=auth_of(said),
        masquerade=masquerade_of(said),
        bandwidth=BandwidthConfig(said.get("bandwidth.up", 0), said.get("bandwidth.down", 0)),
        congestion=_congestion(said),
        fec=_fec(said),
        accel=_accel(said),
        log_level=said.get("log.level", "info"),
        log_format=said.get("log.format", "text"),
        status_socket=said.path("status.socket") if said.has("status.socket") else None,
        memory=said.get("limits.memory", DEFAULT_MEMORY),
        mtu=said.get("mtu", MAX_MTU),
        metrics=said.get("metrics.listen", None),
        acl=acl,
        reverse_allow=read_reverse_allow(said),
        tun=tun,
        life=life_config(said),
        rates=rates,
        sessions_per_user=said.get("limits.sessionsPerUser", SESSIONS_PER_USER),
        speed_test=said.get("speedTest", True),
    )


def load_client(path: str | Path) -> ClientConfig:
    """Read client.yaml and the link in it. Raises ConfigError with every problem of the file."""
    source = Path(path)
    values, problems = read_values(source, CLIENT_KEYS)
    problems += missing_keys(values, CLIENT_KEYS)
    said = Said(values, source.parent)
    servers, server_problems = read_servers(said)
    first = servers[0]
    socks5, socks5_problems = read_socks5(said)
    http, http_problems = read_http(said)
    forwards, forwards_problems = read_forwards(said)
    problems += server_problems + socks5_problems + http_problems + forwards_problems
    bandwidth = BandwidthConfig(said.get("bandwidth.up", 0), said.get("bandwidth.down", 0))
    paths, path_problems = read_paths(said, first.server, bandwidth.up, bandwidth.down)
    acl, acl_problems = read_acl(values, source.parent, Guard.NONE)
    tun, tun_problems = read_client_tun(said)
    problems += path_problems + acl_problems + tun_problems + _check_fec(said)
    if problems:
        raise ConfigError(source, problems)
    return ClientConfig(
        server=first.server,
        auth=first.auth,
        tls=first.tls,
        servers=servers,
        paths=paths,
        multipath=read_multipath(said),
        socks5=socks5,
        http=http,
        forwards=forwards,
        bandwidth=bandwidth,
        congestion=_congestion(said),
        fec=_fec(said),
        accel=_accel(said),
        log_level=said.get("log.level", "info"),
        log_format=said.get("log.format", "text"),
        status_socket=said.path("status.socket") if said.has("status.socket") else None,
        memory=said.get("limits.memory", DEFAULT_MEMORY),
        metrics=said.get("metrics.listen", None),
        acl=acl,
        tun=tun,
        life=life_config(said),
    )


def _congestion(said: Said) -> CongestionConfig:
    return CongestionConfig(cast("Literal['bbr', 'brutal']", said.get("congestion.type", "bbr")))


def _fec(said: Said) -> FecConfig:
    return FecConfig(
        enabled=said.get("fec.mode", "on") == "on",
        residual_loss=said.get("fec.residualLoss", DEFAULT_RESIDUAL_LOSS),
        overhead=said.get("fec.overhead", 0.0),
    )


def _check_fec(said: Said) -> list[Problem]:
    if said.get("fec.mode", "on") == "off" and said.get("fec.overhead", 0.0):
        return [needs(said, "fec.overhead", "has no effect with fec.mode: off; remove one of them")]
    return []


def _accel(said: Said) -> AccelConfig:
    return AccelConfig(
        fec=said.get("accel.fec", ""),
        aead=said.get("accel.aead", ""),
        allow_emulated=said.get("accel.allow_emulated", False),
        goal=said.get("accel.goal", "throughput"),
        plugins=said.get("accel.plugins", ()),
        calibration=said.get("accel.calibration", "auto"),
        service=said.get("accel.service", "auto"),
        gather_us=said.get("accel.gather_us", 200),
    )
