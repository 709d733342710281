from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from vantun.cli import speedtest
from vantun.cli.speedtest_view import view
from vantun.errors import ConnectError
from vantun.speedtest.messages import Receipt, Request
from vantun.speedtest.outcome import Datagrams, Exchanges, Outcome, Streams
from vantun.speedtest.way import Way


def run(monkeypatch: pytest.MonkeyPatch, then: Callable[[Outcome], None], *arguments: str) -> Result:
    """Run the command with a tunnel that answers, and carries what ``then`` says."""

    def idle(_way: Way, outcome: Outcome, _seconds: float) -> None:
        outcome.idle.times += [0.010, 0.020]

    def streams(_way: Way, outcome: Outcome, _streams: int, _seconds: float) -> None:
        then(outcome)

    def datagrams(_way: Way, outcome: Outcome, request: Request) -> None:
        outcome.upload = Datagrams(request.count, Receipt(received=request.count - 1))

    monkeypatch.setattr("vantun.speedtest.streams.measure_idle", idle)
    monkeypatch.setattr("vantun.speedtest.streams.measure_streams", streams)
    monkeypatch.setattr("vantun.speedtest.datagrams.measure_datagrams", datagrams)
    return CliRunner().invoke(speedtest.command, ["--proxy", ":1080", *arguments], standalone_mode=False)


def whole(outcome: Outcome) -> None:
    outcome.download = Streams(12_500_000, 1.0, Exchanges([0.030]))
    outcome.upload = Streams(1_250_000, 1.0)


def interrupted(outcome: Outcome) -> None:
    outcome.download = Streams(12_500_000, 1.0)
    raise KeyboardInterrupt


def broken(outcome: Outcome) -> None:
    outcome.download = Streams(12_500_000, 1.0)
    raise ConnectError("the measurement broke in the middle")


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, whole)
    assert result.return_value == 0
    for said in ("100.0 Mbit/s", "10.0 Mbit/s", "10.00 ms", "20.00 ms", "during the download", "30.00 ms"):
        assert said in result.output


@pytest.mark.parametrize(("then", "said"), [(interrupted, "interrupted"), (broken, "broke in the middle")])
def test_what_was_measured_is_printed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[Outcome], None], said: str
) -> None:
    result = run(monkeypatch, then)
    assert result.return_value == 1
    assert "100.0 Mbit/s" in result.stdout
    assert said in result.stderr
    found = json.loads(run(monkeypatch, then, "--json").stdout)
    assert found["download"]["bits_per_second"] == 100_000_000
    assert found["upload"] is None
    assert found["interrupted"] is (then is interrupted)
    assert bool(found["error"]) is (then is broken)


def test_datagrams_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, whole, "--udp", "--json", "--rate", "8M", "--size", "1000", "--duration", "1")
    found = json.loads(result.stdout)
    assert result.return_value == 0
    assert (found["kind"], found["rate"], found["size"]) == ("datagrams", 8_000_000, 1000)
    assert (found["upload"]["sent"], found["upload"]["lost"]) == (1000, 1)


def test_datagrams_as_a_table() -> None:
    assert [table.title for table in view(Outcome(upload=Datagrams(3, Receipt(received=2))))] == [
        "Datagrams",
        "Exchanges with the server",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--udp", "--rate", "300M"),
        ("--udp", "--rate", "100M", "--size", "64"),
        ("--udp", "--rate", "fast"),
        ("--size", "10"),
        ("--streams", "17"),
        ("--duration", "61"),
        ("-c", "client.yaml"),
    ],
)
def test_what_is_out_of_bounds_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    result = run(monkeypatch, whole, *arguments)
    assert result.exception is not None
    assert getattr(result.exception, "exit_code", None) == 2


@pytest.mark.parametrize("text", ["50M", "50m", "50 mbps", "50mbps", "0.05G"])
def test_rates(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    found = json.loads(run(monkeypatch, whole, "--udp", "--json", "--rate", text).stdout)
    assert found["rate"] == 50_000_000
