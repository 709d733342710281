"""Every key of server.yaml and client.yaml.

This is the one table behind the reader, `vantun config init` and docs/configuration.md.
Names and meanings are those of Hysteria 2 wherever it has them, so that its users can port their files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vantun.config_accel import ACCEL_KEYS
from vantun.config_acl import ACL_KEYS
from vantun.config_auth import AUTH_KEYS
from vantun.config_forwards import FORWARDS_KEYS, REVERSE_ALLOW_KEYS
from vantun.config_kinds import (
    BOOLEAN,
    FILE,
    FINGERPRINT,
    HOST,
    LISTEN,
    OVERHEAD,
    RATE,
    RESIDUAL,
    SECRET,
    SIZE,
    Endpoint,
    choice,
)
from vantun.config_life import LIFE_KEYS
from vantun.config_masquerade import MASQUERADE_KEYS
from vantun.config_metrics import METRICS_KEYS
from vantun.config_mtu import MTU_KEYS
from vantun.config_paths import PATHS_KEYS
from vantun.config_proxies import PROXY_KEYS
from vantun.config_servers import SERVERS_KEYS
from vantun.config_speed import SPEED_KEYS
from vantun.config_tun import CLIENT_TUN_KEYS, SERVER_TUN_KEYS
from vantun.config_users import USERS_KEYS
from vantun.config_yaml import Key, read_values

Role = Literal["server", "client"]

DEFAULT_LISTEN = Endpoint("", 443)
DEFAULT_RESIDUAL_LOSS = 1e-3
DEFAULT_MEMORY = 128 * 10**6


_COMMON = (
    Key(
        "congestion.type",
        choice("bbr", "brutal"),
        "How fast to send: `bbr` measures the path, `brutal` sends at the rate "
        "configured in `bandwidth` whatever is lost.",
        "bbr",
        "bbr",
    ),
    Key("fec.mode", choice("on", "off"), "Whether this end sends parity.", "on", "on"),
    Key(
        "fec.residualLoss",
        RESIDUAL,
        "Loss that parity should leave over, as a fraction of the packets sent.",
        "1e-3",
        "1e-3",
    ),
    Key(
        "fec.overhead",
        OVERHEAD,
        "Parity that is sent in any case, as a share of the data; what the paths lose can make it more. It covers "
        "packets (TUN, UDP) and exchanges; bulk streams get parity on demand. Every group of shards gets at least one, "
        "so a trickle costs more.",
        "20 %",
        "0 %",
    ),
    *ACCEL_KEYS,
    Key(
        "log.level",
        choice("debug", "info", "warning", "error"),
        "The least serious message that is logged.",
        "info",
        "info",
    ),
    Key(
        "log.format",
        choice("text", "json"),
        "How messages are written to standard error: readable lines, or one JSON object each.",
        "text",
        "text",
    ),
    Key(
        "status.socket",
        FILE,
        "Unix socket that `vantun status` asks. Without it the role's name in /run/vantun (root) or "
        "$XDG_RUNTIME_DIR/vantun.",
        "status.sock",
    ),
    *MTU_KEYS,
    Key("limits.memory", SIZE, "Memory for packet buffers, all sessions together.", "128 MB", "128 MB"),
    *METRICS_KEYS,
    *ACL_KEYS,
    *LIFE_KEYS,
)

SERVER_KEYS = (
    Key(
        "listen", LISTEN, "UDP address and port to serve; without a host, every address of the machine.", ":443", ":443"
    ),
    Key("tls.cert", FILE, "Certificate chain, PEM.", "fullchain.pem", required=True),
    Key("tls.key", FILE, "Private key of the certificate, PEM.", "key.pem", required=True),
    *AUTH_KEYS,
    *USERS_KEYS,
    *MASQUERADE_KEYS,
    Key(
        "bandwidth.up",
        RATE,
        "The most that is sent on each path of a client; the rate that `brutal` sends at.",
        "1 gbps",
    ),
    Key("bandwidth.down", RATE, "The most that a client may send on each of its paths.", "1 gbps"),
    *SERVER_TUN_KEYS,
    *REVERSE_ALLOW_KEYS,
    *SPEED_KEYS,
    *_COMMON,
)

CLIENT_KEYS = (
    *SERVERS_KEYS,
    Key(
        "auth",
        SECRET,
        "What the server knows us by: `password` or `user:password`. May stand in the link instead.",
        "alice:s3cret",
    ),
    Key("tls.sni", HOST, "Server name to ask for and to verify. Without it the host in `server`.", "example.org"),
    Key("tls.ca", FILE, "Certificate authorities to trust instead of the system's, PEM.", "ca.pem"),
    Key(
        "tls.pinSHA256",
        FINGERPRINT,
        "SHA-256 fingerprint of the server's certificate; no other certificate is accepted. "
        "`vantun cert fingerprint` prints it.",
        "'" + "ab" * 32 + "'",
    ),
    Key(
        "tls.insecure",
        BOOLEAN,
        "Accept any certificate. Whoever is on the way can then read and change everything.",
        "false",
        "false",
    ),
    *PATHS_KEYS,
    *PROXY_KEYS,
    *FORWARDS_KEYS,
    Key(
        "bandwidth.up",
        RATE,
        "Rate towards the server, each path: the most that is sent, and the rate that `brutal` sends at.",
        "40 mbps",
    ),
    Key(
        "bandwidth.down",
        RATE,
        "Rate from the server, each path: the most that the server is asked to send.",
        "100 mbps",
    ),
    *CLIENT_TUN_KEYS,
    *_COMMON,
)

KEYS: dict[Role, tuple[Key, ...]] = {"server": SERVER_KEYS, "client": CLIENT_KEYS}


def role_of(path: Path) -> Role:
    """Return whose file this is, by the top-level keys that only a client has; ConfigError when it cannot be read."""
    values, _ = read_values(path, CLIENT_KEYS)
    sections = ("server", "servers", "socks5", "paths", "multipath")
    return "client" if any(values.under(name) for name in sections) else "server"
