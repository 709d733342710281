"""All checks in the order in which a packet meets what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vantun.config import ClientConfig, ServerConfig
from vantun.config_life import DEFAULT_LIFE
from vantun.config_schema import DEFAULT_MEMORY
from vantun.control.worker_card import card_of
from vantun.control.worker_count import worker_count
from vantun.doctor import installation, network, system, workers
from vantun.doctor.finding import Finding, problem

Check = Callable[[], "Finding | list[Finding]"]


def examine(config: ServerConfig | ClientConfig | None, root: Path = Path("/")) -> list[Finding]:
    """Return the findings of every check.

    Parameters
    ----------
    config
        What will run here; None = in general.
    root
        The folder that stands for ``/``.

    A check that fails in an unforeseen way is a finding, too: one broken file of ``/proc`` must not hide the rest.
    """
    findings: list[Finding] = []
    for check in _checks(config, root):
        try:
            found = check()
        except (OSError, ValueError, ArithmeticError) as error:
            name = getattr(check, "__name__", "check")
            findings.append(
                problem(name, f"could not look: {error}", "report this, with the output of: vantun doctor --json")
            )
            continue
        findings += found if isinstance(found, list) else [found]
    return findings


def _checks(config: ServerConfig | ClientConfig | None, root: Path) -> Iterator[Check]:
    server = config if isinstance(config, ServerConfig) else None
    tun = getattr(config, "tun", None) is not None
    low_port = server is not None and 0 < server.listen.port < 1024
    yield installation.python_version
    yield installation.packages
    yield installation.neighbours
    yield installation.kernels
    yield lambda: system.kernel_release(root)
    yield lambda: system.processor(root)
    yield lambda: system.memory(root, config.memory if config else DEFAULT_MEMORY)
    yield system.open_files
    yield lambda: system.capabilities(root, tun=tun, low_port=low_port)
    yield lambda: system.socket_buffers(root)
    yield lambda: workers.data_workers(config.life if config else DEFAULT_LIFE, card=card_of(config) if config else "")
    yield network.offloads
    yield lambda: network.interfaces(root)
    yield lambda: network.segmentation(root)
    yield lambda: network.ipv6(root)
    yield lambda: network.tun(needed=tun)
    yield lambda: network.tun_steering(needed=tun and config is not None and worker_count(config.life)[0] > 1)
    yield lambda: network.packet_filter(needed=tun)
    yield system.clock
    if server is not None:
        yield lambda: installation.certificate(server.tls.cert)
    if config is not None:
        yield lambda: installation.port(config)
