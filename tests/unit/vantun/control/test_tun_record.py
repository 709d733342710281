from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vantun.control.tun_record import SLOTS, Record, TunRecords
from vantun.errors import ResourceError

FORWARD = "ipv4/ip_forward"


class Machine:
    """Kernel settings in memory."""

    def __init__(self) -> None:
        self.settings = {FORWARD: "0"}

    def records(self, folder: Path) -> TunRecords:
        return TunRecords(folder, self.settings.get, self.settings.__setitem__)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def rewrite(folder: Path, device: str, **fields: Any) -> None:
    """Change fields of a record on disk, as if somebody else had written it."""
    [place] = folder.glob(f"tun-{device}-*.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), **fields}))


def test_a_setting_goes_back_to_what_it_was(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path / "deep" / "folder")
    record, crashed = records.claim("v0")
    assert not crashed
    records.set(record, FORWARD, "1")
    records.set(record, FORWARD, "1")
    records.set(record, "ipv6/missing", "1")
    assert machine.settings == {FORWARD: "1"}
    assert records.release(record) == []
    assert machine.settings == {FORWARD: "0"}
    assert not list(records.folder.glob("*.json"))


def test_what_somebody_has_changed_since_stays(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path)
    record, _ = records.claim("v0")
    records.set(record, FORWARD, "1")
    machine.settings[FORWARD] = "2"
    records.release(record)
    assert machine.settings[FORWARD] == "2"


def test_after_a_crash_the_next_start_knows_what_it_was(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path)
    before, _ = records.claim("v0")
    records.set(before, FORWARD, "1")
    rewrite(tmp_path, "v0", started=1)
    record, crashed = records.claim("v0")
    assert crashed
    assert record.slot == before.slot, "what it has left can be found"
    assert machine.settings[FORWARD] == "0"
    records.set(record, FORWARD, "1")
    records.release(record)
    assert machine.settings[FORWARD] == "0"


def test_a_device_has_one_owner(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path)
    records.claim("v0")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stat = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        rewrite(tmp_path, "v0", pid=other.pid, started=int(stat[19]))
        with pytest.raises(ResourceError, match=f"process {other.pid} has the interface v0"):
            records.claim("v0")
        other.communicate(b"\n")
    records.claim("v0")


def test_the_last_one_that_needs_a_setting_restores_it(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path)
    first, _ = records.claim("v0")
    second, _ = records.claim("v1")
    assert first.slot != second.slot
    for record in (first, second):
        records.set(record, FORWARD, "1")
    records.release(first)
    assert machine.settings[FORWARD] == "1"
    rewrite(tmp_path, "v1", started=1)
    records.release(records.claim("v1")[0])
    assert machine.settings[FORWARD] == "0"


def test_another_boot_is_about_nothing(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path)
    record, _ = records.claim("v0")
    records.set(record, FORWARD, "1")
    rewrite(tmp_path, "v0", boot="another")
    machine.settings[FORWARD] = "1"
    record, crashed = records.claim("v0")
    assert not crashed
    assert record.settings == {}
    assert machine.settings[FORWARD] == "1"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 3}', '{"settings": {"a": []}}'])
def test_a_record_that_cannot_be_read_is_none(machine: Machine, tmp_path: Path, text: str) -> None:
    records = machine.records(tmp_path)
    records.claim("v0")
    [place] = tmp_path.glob("tun-v0-*.json")
    place.write_text(text)
    assert records.claim("v0")[0].settings == {}


def test_slots_are_bounded(machine: Machine, tmp_path: Path) -> None:
    records = machine.records(tmp_path)
    slots = {records.claim(f"v{number}")[0].slot for number in range(SLOTS)}
    assert slots == set(range(SLOTS))
    with pytest.raises(ResourceError, match="stop one of them"):
        records.claim("one too many")


def test_a_folder_that_cannot_be_made(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be made"):
        machine.records(tmp_path / "file" / "folder")


def test_records_are_plain() -> None:
    assert Record("v0", 0, "boot", 1, 2, 3).settings == {}
