from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.vantun.demo.test_report import PHASE, TRANSFER
from vantun import cli
from vantun.cli.demo import conclude, frame, lines
from vantun.demo.phase import Progress
from vantun.demo.scene import Settings
from vantun.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, VerificationError

CHANGED = replace(PHASE, upload=replace(TRANSFER, sha256="ab"))


@pytest.mark.parametrize("size", ["5", "many", "999 kB"])
def test_a_size_that_shows_nothing_is_wrong_usage(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--size", size]) == EXIT_USAGE
    assert "--size" in capsys.readouterr().err


def test_lines_are_printed_when_something_new_is_done() -> None:
    steps = [
        Progress("", "making a certificate"),
        Progress("FEC on", "loading", 0.1),
        Progress("FEC on", "loading", 0.2),
        Progress("FEC on", "path A is cut", 0.6),
    ]
    assert list(lines(iter(steps))) == ["making a certificate", "FEC on: loading", "FEC on: path A is cut"]


def test_the_live_picture() -> None:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(frame(Progress("FEC on", "loading", 0.5, 0.25, 91.4e6, 45.1e6, 0.0431)))
        console.print(frame(Progress("FEC on", "starting the server")))
    text = capture.get()
    for part in ("loading", "91.4 Mbit/s", "45.1 Mbit/s", "43 ms", "starting the server"):
        assert part in text


def test_the_outcome_decides_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude(Settings(), [PHASE], as_json=False) == EXIT_OK
    assert "of the ceiling" in capsys.readouterr().out
    with pytest.raises(VerificationError, match="arrived with other bytes") as failure:
        conclude(Settings(), [CHANGED], as_json=True)
    assert failure.value.exit_code == EXIT_FAILURE
    assert json.loads(capsys.readouterr().out)["problems"] == [str(failure.value)]
