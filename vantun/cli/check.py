"""``vantun check config FILE``: say everything that is wrong with a file, and start nothing."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vantun.cli import render
from vantun.config import ClientConfig, MasqueradeConfig, ServerConfig, load_client, load_server
from vantun.config_schema import role_of
from vantun.errors import EXIT_OK, ConfigError, Problem


@click.group("check", short_help="Check a configuration file.")
def command() -> None:
    """Check without starting anything."""


@command.command("config", short_help="Check a server's or client's file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice(["server", "client"]), help="Which of the two it is. [default: by its keys]")
def check_config(file: Path, role: str | None) -> int:
    """Read FILE as the appliance would, and look for the files that it names."""
    config: ServerConfig | ClientConfig
    config = load_server(file) if (role or role_of(file)) == "server" else load_client(file)
    problems = [Problem(text) for text in missing_files(config) + wrong_engines(config)]
    if problems:
        raise ConfigError(file, problems)
    for text in summary(config):
        render.line(text)
    render.line(f"{file}: no problems")
    return EXIT_OK


def missing_files(config: ServerConfig | ClientConfig) -> list[str]:
    """Return a sentence for each file that the configuration names and that cannot be read."""
    if isinstance(config, ServerConfig):
        named = {"tls.cert": config.tls.cert, "tls.key": config.tls.key}
        advice = "; `vantun cert self-signed` makes both"
    else:
        named = {"tls.ca": config.tls.ca} if config.tls.ca else {}
        advice = ""
    missing = [] if not isinstance(config, ServerConfig) else _missing_site(config.masquerade)
    return missing + [
        f"{key}: {path} cannot be read{advice}"
        for key, path in named.items()
        if not path.is_file() or not os.access(path, os.R_OK)
    ]


def _missing_site(site: MasqueradeConfig) -> list[str]:
    if site.type != "file" or (os.access(site.folder, os.R_OK | os.X_OK) and site.folder.is_dir()):
        return []
    return [f"masquerade.file.dir: {site.folder} is no folder that can be read; make it, with an index.html"]


def wrong_engines(config: ServerConfig | ClientConfig) -> list[str]:
    """Return a sentence for each list of engines that the worker would refuse when it starts."""
    from accel.catalogue import Kind
    from accel.plugins import catalogue_with
    from accel.preference import parse
    from drivers.errors import DriverError

    problems = []
    rows = catalogue_with(config.accel.plugins)
    for kind, text in ((Kind.FEC, config.accel.fec), (Kind.AEAD, config.accel.aead)):
        try:
            parse(text, [row.name for row in rows if kind in row.kinds], f"accel.{kind.value}")
        except DriverError as error:
            problems.append(str(error))
    return problems


def summary(config: ServerConfig | ClientConfig) -> list[str]:
    """Return what the configuration comes to, without its secrets."""
    fec = "on" if config.fec.enabled else "off"
    if config.fec.overhead:
        fec += f" with at least {config.fec.overhead:.3g} of the data as parity"
    if isinstance(config, ServerConfig):
        who = "one password" if config.auth.type == "password" else f"{len(config.auth.users)} user(s)"
        first = [f"server on {config.listen.host or '*'}:{config.listen.port}/udp, {who}"]
    else:
        first = [f"client of {config.server}", *modes(config)]
        first += [
            f"path {path.name}: to {path.server} from {path.source or 'any address'}, "
            f"up {_rate(path.up)}, down {_rate(path.down)}"
            for path in config.paths
        ]
        if config.multipath.auto:
            first.append(f"paths of the system: up to {config.multipath.most} interfaces with a default route")
    return [*first, f"congestion control {config.congestion.type}, FEC {fec}, log level {config.log_level}"]


def modes(config: ClientConfig) -> list[str]:
    """Return a line for each way in that programs have."""
    forwards = config.forwards
    lines = []
    if config.socks5 is not None:
        both = config.http is not None and config.http.listen == config.socks5.listen
        lines.append(f"SOCKS5{' and HTTP' if both else ''} on {config.socks5.listen}")
    if config.http is not None and (config.socks5 is None or config.http.listen != config.socks5.listen):
        lines.append(f"HTTP proxy on {config.http.listen}")
    for protocol, items in (("TCP", forwards.tcp), ("UDP", forwards.udp)):
        lines += [f"{protocol} forward: {item.listen} here to {item.remote} at the server" for item in items]
    lines += [
        f"{item.protocol.upper()} reverse forward: {item.listen} at the server to {item.target} here"
        for item in forwards.reverse
    ]
    transparent = {
        "TPROXY (TCP)": forwards.tcp_tproxy,
        "TPROXY (UDP)": forwards.udp_tproxy,
        "REDIRECT": forwards.tcp_redirect,
    }
    return lines + [f"{name} on {listen}" for name, listen in transparent.items() if listen is not None]


def _rate(bits: int) -> str:
    return render.rate(bits) if bits else "measured"
