"""The command ``vantun top``, and what it shows on terminals of all sizes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.unit.vantun.cli.top_documents import Status, later, spend, status
from vantun import cli
from vantun.cli import render, top
from vantun.cli.top_limits import findings
from vantun.cli.top_rates import rates
from vantun.cli.top_view import ROWS, view
from vantun.errors import NotRunningError


def busy_pair() -> tuple[Status, Status]:
    """Return two statuses a second apart, of a worker that seals."""
    before = status()
    after = later(before, out_bps=40e6, in_bps=1e6)
    spend(after, "seal", 0.6)
    after["worker"]["cpu_s"] += 0.95
    after["channels"][0].update(rx_recovered=10, queued=77)
    after["drops"]["bad"] = 3
    return before, after


def shown(before: Status, after: Status, width: int = 160, lines: int | None = None) -> str:
    """Return the text of one sample on a terminal of this size."""
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(view(rates(before, after, 1.0), findings(before, after, 1.0), console, lines))
    return capture.get()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have a busy pair answer instead of an appliance, and no time pass; return who was asked."""
    answers: Iterator[Status] = iter(busy_pair())
    places: list[Path] = []

    def ask(path: Path) -> Status:
        places.append(path)
        return next(answers)

    monkeypatch.setattr(top, "ask", ask)
    monkeypatch.setattr(top, "sample", _instantly(top.sample))
    return places


def _instantly(sample: Callable[..., Iterator[top.Sample]]) -> Callable[..., Iterator[top.Sample]]:
    seconds = iter(range(100))
    return lambda fetch, first, interval, *_: sample(fetch, first, interval, lambda _s: None, lambda: next(seconds))


def test_one_sample_where_output_is_no_terminal(asked: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--socket", "x.sock"]) == 0
    out = capsys.readouterr().out
    assert "Limit: worker, seal: the worker is busy 95 % of the time, and stage seal takes 63 % of that" in out
    for text in (
        "Next: ",
        "Stages",
        "Paths",
        "dsl",
        "Channels",
        "77",
        "Engines",
        "aead.seal",
        "Dropped per second: bad",
    ):
        assert text in out
    assert asked == [Path("x.sock")] * 2


def test_one_sample_as_json(asked: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--socket", "x.sock", "--json", "--once"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["limit"]["limit"], document["limit"]["subject"]) == ("worker", "seal")
    assert document["out_bps"] == 40e6
    assert document["stages"][-1]["name"] == "seal"
    assert len(asked) == 2


def test_live_until_ctrl_c(
    asked: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(frames: Iterator[object]) -> None:
        assert len(list(islice(frames, 2))) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "is_terminal", lambda: True)
    monkeypatch.setattr(render, "screen", interrupt)
    assert cli.main(["top", "--socket", "x.sock"]) == 0
    assert capsys.readouterr().err == ""
    assert len(asked) == 2


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--socket", str(tmp_path / "absent")]) == 1
    assert "no VANTUN answers on" in capsys.readouterr().err


def test_an_appliance_that_stops_is_waited_for() -> None:
    before, after = busy_pair()
    answers: Iterator[Status | NotRunningError] = iter([NotRunningError("no VANTUN answers"), before, after])
    seconds = iter(range(100))

    def fetch() -> Status:
        answer = next(answers)
        if isinstance(answer, NotRunningError):
            raise answer
        return answer

    frames = top.frames(fetch, before, 1.0, lambda _seconds: None, lambda: next(seconds))
    texts = []
    for frame in islice(frames, 4):
        console = Console(file=io.StringIO(), width=200)
        console.print(frame)
        assert isinstance(console.file, io.StringIO)
        texts.append(console.file.getvalue())
    assert "measuring for 1 s" in texts[0]
    assert "no VANTUN answers" in texts[1]
    assert "no sample before this one" in texts[2]
    assert "seal" in texts[3]


def test_a_low_terminal_keeps_the_limit_and_names_what_it_leaves_out() -> None:
    before, after = busy_pair()
    text = shown(before, after, 80, lines=10)
    assert text.startswith("Limit: worker, seal")
    assert "A higher terminal shows Stages, Paths, Channels, Engines" in text


def test_a_narrow_terminal_leaves_out_columns_from_the_right() -> None:
    before, after = busy_pair()
    text = shown(before, after, 45)
    assert "of busy time" in text
    assert "calls/s" not in text
    assert "calls/s" in shown(before, after, 160)


def test_of_many_paths_the_busiest_are_shown() -> None:
    before, after = busy_pair()
    for document in (before, after):
        document["lanes"] += [{**status()["lanes"][0], "path": n, "name": f"idle{n}"} for n in range(1, 40)]
    text = shown(before, after)
    assert "dsl" in text
    assert f"{40 - ROWS} more of them are not shown" in text


@given(st.integers(1, 200), st.integers(1, 60))
def test_no_terminal_is_too_small(width: int, lines: int) -> None:
    text = shown(*busy_pair(), width, lines)
    assert len(text.splitlines()) <= lines


def test_a_dead_worker_is_shown() -> None:
    assert "no data worker answers" in shown(status(), {"role": "server", "workers": {}})
