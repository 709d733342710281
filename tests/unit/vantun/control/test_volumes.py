"""Volumes of a month: counting, the calendar, and files that are no good."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from vantun.control.volumes import FILE, Volumes, volume_folder


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, 0)

    def __call__(self) -> datetime:
        return self.now


def lane(size: int, path: int = 0, peer: str = "192.0.2.1:443", packets: int = 0) -> dict[str, object]:
    both = {"sent": packets, "received": packets, "sent_bytes": size // 2, "received_bytes": size - size // 2}
    return {"session": "5e", "path": path, "peer": peer, **both}


NAMES = {("5e", 0): "lte", ("5e", 1): "dsl", ("5e", 2): "lte"}


def test_both_directions_count_and_headers_with_them(tmp_path: Path) -> None:
    volumes = Volumes({"lte": 10_000, "dsl": 0}, tmp_path, Clock())
    assert volumes.count([lane(1000, packets=10), lane(5000, 1)], NAMES) == []
    assert volumes.used("lte") == 1000 + 2 * 10 * 28
    assert volumes.used("dsl") == 0
    assert volumes.report("dsl") == {}
    volumes.count([lane(2000, packets=10)], NAMES)
    assert volumes.used("lte") == 2000 + 2 * 10 * 28
    # another lane of the same path, after the first one has ended; then one of a worker that was started anew
    volumes.count([lane(100, 2)], NAMES)
    volumes.count([lane(50, 2)], NAMES)
    assert volumes.used("lte") == 2100 + 2 * 10 * 28
    volumes.count([lane(60, 2), lane(7, 9)], NAMES)
    assert volumes.used("lte") == 2110 + 2 * 10 * 28
    volumes.count([lane(0, 0, "2001:db8::1:443", packets=1)], NAMES)
    assert volumes.used("lte") == 2110 + 2 * 10 * 28 + 96


def test_a_path_is_closed_until_the_first_of_the_next_month(tmp_path: Path) -> None:
    clock = Clock()
    volumes = Volumes({"lte": 1000}, tmp_path, clock)
    assert volumes.closed_until("lte") is None
    assert volumes.count([lane(1000)], NAMES) == ["lte"]
    assert volumes.closed_until("lte") == datetime(2026, 12, 1)
    assert volumes.report("lte") == {"cap": 1000, "cap_used": 1000, "closed_until": "2026-12-01T00:00:00"}
    clock.now = datetime(2026, 11, 30, 23, 59, 59)
    assert volumes.closed_until("lte") is not None
    clock.now = datetime(2026, 12, 1)
    assert volumes.closed_until("lte") is None
    assert volumes.used("lte") == 0
    volumes.count([lane(3000)], NAMES)
    assert volumes.used("lte") == 2000, "what was counted before is not counted again"
    assert volumes.closed_until("lte") == datetime(2027, 1, 1)


def test_a_restart_goes_on_counting_and_a_clock_that_goes_back_gives_nothing(tmp_path: Path) -> None:
    clock = Clock()
    volumes = Volumes({"lte": 1000}, tmp_path / "state", clock)
    volumes.count([lane(600)], NAMES)
    volumes.count([lane(900)], NAMES)
    volumes.save()
    assert json.loads((tmp_path / "state" / FILE).read_text()) == {"month": "2026-11", "used": {"lte": 900}}
    assert [file.name for file in (tmp_path / "state").iterdir()] == [FILE]
    clock.now = datetime(1970, 1, 1)
    again = Volumes({"lte": 1000}, tmp_path / "state", clock)
    assert again.used("lte") == 900
    assert again.count([lane(100, 2)], NAMES) == ["lte"]
    clock.now = datetime(2026, 12, 2)
    assert Volumes({"lte": 1000}, tmp_path / "state", clock).used("lte") == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"month": "soon", "used": {}}',
        '{"month": "2026-11", "used": 1}',
        '{"used": {"lte": "x"}}',
        "\xff",
    ],
)
def test_a_damaged_file_counts_as_none(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    volumes = Volumes({"lte": 1000}, tmp_path, Clock())
    assert volumes.used("lte") == 0
    assert volumes.count([lane(1500)], NAMES) == ["lte"]
    assert caplog.text.count("is damaged") == 1
    assert Volumes({"lte": 1000}, tmp_path, Clock()).used("lte") == 1500


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    volumes = Volumes({"lte": 1000}, tmp_path / "file", Clock())
    for size in (100, 500, 1200):
        volumes.count([lane(size)], NAMES)
        volumes.save()
    assert volumes.used("lte") == 1200
    assert volumes.closed_until("lte") is not None
    assert caplog.text.count("the file of used volumes") == 1


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    volumes = Volumes({"lte": 1000}, tmp_path, Clock())
    volumes.count([lane(100)], NAMES)
    before = (tmp_path / FILE).read_text()
    monkeypatch.setattr("vantun.control.volumes.os.fsync", full)
    volumes.count([lane(1100)], NAMES)
    assert volumes.used("lte") == 1100
    assert "No space left on device" in caplog.text
    assert (tmp_path / FILE).read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_no_cap_no_file(tmp_path: Path) -> None:
    volumes = Volumes({"dsl": 0}, tmp_path, Clock())
    assert volumes.count([lane(10**9)], NAMES) == []
    volumes.save()
    assert list(tmp_path.iterdir()) == []


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/vantun:/var/lib/other")
    assert volume_folder() == Path("/var/lib/vantun")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/a/state")
    assert volume_folder() == Path("/home/a/state/vantun")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/a")
    assert volume_folder() == Path("/home/a/.local/state/vantun")
