"""``vantun speedtest``: how much the tunnel carries, and how it answers meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vantun.cli import render
from vantun.config_kinds import Endpoint, parse_endpoint
from vantun.config_units import parse_rate
from vantun.errors import EXIT_FAILURE, EXIT_OK, VantunError
from vantun.speedtest.messages import MOST_STREAMS, SIZES, Mode, Request

if TYPE_CHECKING:
    from vantun.speedtest.outcome import Outcome
    from vantun.speedtest.way import Way

_LONGEST = 60.0


@dataclass(frozen=True)
class _Load:
    """What is to be measured: seconds of each direction; streams, or datagrams of a rate (bit/s) and a size (bytes)."""

    duration: float
    streams: int
    udp: bool
    rate: int
    size: int

    @property
    def request(self) -> Request:
        return Request(Mode.DATAGRAMS_UP, self.duration, self.size, self.rate)

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        more = {"rate": self.rate, "size": self.size} if self.udp else {"streams": self.streams}
        return {"kind": "datagrams" if self.udp else "streams", "duration": self.duration, **more}


class _Rate(click.ParamType[int]):
    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read ``50M``, ``50 mbps`` or ``50mbps``."""
        text = str(value).strip()
        unit = {"k": "kbps", "m": "mbps", "g": "gbps"}.get(text[-1:].lower())
        try:
            return parse_rate(text[:-1] + unit if unit else text)
        except ValueError as error:
            self.fail(f"{text}: {error}", param, ctx)


class _Proxy(click.ParamType[Endpoint]):
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Read ``host:port``; without a host it is this machine."""
        try:
            where = parse_endpoint(str(value))
        except ValueError as error:
            self.fail(f"{value}: {error}", param, ctx)
        return Endpoint(where.host or "127.0.0.1", where.port)


@click.command("speedtest", short_help="Measure what the tunnel carries, both ways.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), help="The client's file: proxy and login.")
@click.option("--proxy", type=_Proxy(), help="The client's SOCKS5 proxy, if it asks for no login.")
@click.option(
    "--duration", type=click.FloatRange(0.1, _LONGEST), default=5.0, show_default=True, help="Seconds, each direction."
)
@click.option("--streams", type=click.IntRange(1, MOST_STREAMS), default=4, show_default=True, help="Streams at once.")
@click.option("--udp", is_flag=True, help="Measure with datagrams: loss, order, jitter.")
@click.option("--rate", type=_Rate(), default="50M", show_default=True, help="Of datagrams, with --udp.")
@click.option(
    "--size",
    type=click.IntRange(SIZES[0], SIZES[-1]),
    default=1200,
    show_default=True,
    help="Bytes of a datagram, with --udp.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path | None, proxy: Endpoint | None, as_json: bool, **options: Any) -> int:  # noqa: FBT001
    """Measure between the client that runs here and its server: download, then upload, then what exchanges took.

    The server itself is the far end, so this is the tunnel alone. Exits with 1 when something fails; what was measured
    before that, or before Ctrl-C, is printed.
    """
    from vantun.cli.own_proxy import find_proxy
    from vantun.cli.speedtest_view import view
    from vantun.speedtest.outcome import Outcome
    from vantun.speedtest.way import Way, broken

    load = _Load(**options)
    try:
        if load.udp:
            load.request.check_datagrams()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if proxy is not None and file is not None:
        raise click.UsageError("--proxy and -c exclude each other")
    where, login = (proxy, None) if proxy is not None else find_proxy(file, "speedtest")
    outcome = Outcome()
    try:
        _measure(Way((where.host or "127.0.0.1", where.port), login), outcome, load)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except VantunError as error:
        outcome.error = str(error)
    except OSError as error:
        outcome.error = str(broken(error))
    if as_json:
        render.json({**load.document(), **outcome.document()})
    elif outcome.idle.times:
        render.show(*view(outcome))
    if outcome.interrupted:
        render.error("interrupted; what was measured until then stands above")
    if outcome.error:
        render.error(outcome.error)
    return EXIT_FAILURE if outcome.interrupted or outcome.error else EXIT_OK


def _measure(way: Way, outcome: Outcome, load: _Load) -> None:
    from vantun.speedtest.datagrams import measure_datagrams
    from vantun.speedtest.streams import measure_idle, measure_streams

    measure_idle(way, outcome, load.duration)
    if load.udp:
        measure_datagrams(way, outcome, load.request)
    else:
        measure_streams(way, outcome, load.streams, load.duration)
