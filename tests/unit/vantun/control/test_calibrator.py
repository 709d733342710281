from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from accel.fingerprint import fingerprint
from accel.profile import Profile, save_profile
from vantun import accel_known
from vantun.config_accel import AccelConfig
from vantun.control.calibrator import Calibrator

CONFIG = AccelConfig()
MEASURES = (
    "import shutil, sys; open(sys.argv[1] + '.runs', 'a').write('x'); shutil.copy(sys.argv[1] + '.made', sys.argv[1])"
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the profile will be; a child finds one made, and copies it there."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    place = tmp_path / "vantun" / "engines.json"
    save_profile(place.with_name("engines.json.made"), Profile(fingerprint(), time.time()))
    use_child(monkeypatch, MEASURES)
    return place


def use_child(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    line = [sys.executable, "-I", "-S", "-c", script]
    monkeypatch.setattr(accel_known, "command", lambda *told, **_: [*line, told[-1]])


def run(*calibrators: Callable[[], Calibrator], until: set[str]) -> list[Calibrator]:
    """Let calibrators do their work until their states are as expected."""

    async def both() -> list[Calibrator]:
        made = [each() for each in calibrators]
        for each in made:
            each.start()
        while not all(each.state in until for each in made):
            await asyncio.sleep(0.01)
        for each in made:
            await each.close()
        return made

    return asyncio.run(asyncio.wait_for(both(), 60))


def test_a_machine_of_which_nothing_is_known(file: Path) -> None:
    told: list[int] = []
    (made,) = run(lambda: Calibrator(CONFIG, lambda: told.append(1), 0.0), until={"measured", "failed"})
    assert (made.state, told) == ("measured", [1])
    assert made.report() == {"state": "measured", "reason": "nothing was measured yet"}
    (again,) = run(lambda: Calibrator(CONFIG, lambda: told.append(2), 0.0), until={"known"})
    assert again.reason == "measured before"
    assert told == [1]


def test_two_at_once_measure_once(file: Path) -> None:
    told: list[int] = []
    make = [lambda each=each: Calibrator(CONFIG, lambda: told.append(each), 0.0) for each in (1, 2)]
    run(*make, until={"measured", "known"})
    assert Path(f"{file}.runs").read_text() == "x"
    assert 1 in told
    assert set(told) <= {1, 2}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit('no memory')", "the child process ended with 1: no memory"),
        ("import os; os.abort()", "the child process ended with -6: "),
    ],
)
def test_a_child_that_fails(script: str, reason: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_child(monkeypatch, script)
    (made,) = run(lambda: Calibrator(CONFIG, lambda: pytest.fail("nothing was measured"), 0.0), until={"failed"})
    assert made.reason == reason


def test_a_state_folder_that_cannot_be_made(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    (made,) = run(lambda: Calibrator(CONFIG, lambda: None, 0.0), until={"failed"})
    assert made.state == "failed"


def test_it_is_ended_with_the_appliance(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_child(monkeypatch, "import time; time.sleep(1000)")
    run(lambda: Calibrator(CONFIG, lambda: None, 0.0), until={"measuring"})


def test_it_is_not_wanted() -> None:
    made = Calibrator(AccelConfig(calibration="off"), lambda: None)
    made.start()
    assert made.report() == {"state": "off", "reason": "accel.calibration is off"}
