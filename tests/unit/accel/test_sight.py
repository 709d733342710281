from __future__ import annotations

import sys
from pathlib import Path

import pytest

from accel.sight import (
    Sighting,
    combine,
    either,
    find_library,
    look_for_library,
    look_for_module,
    look_for_paths,
    look_for_pci,
    pci_devices,
)
from tests.unit.accel.machine import add_file, add_pci


@pytest.mark.parametrize("folder", ["usr/lib", "lib64", "usr/lib/x86_64-linux-gnu", "opt/vendor/lib"])
def test_a_library_is_found_where_the_linker_looks(tmp_path: Path, folder: str) -> None:
    add_file(tmp_path, "etc/ld.so.conf", "include ld.so.conf.d/*.conf\n")
    add_file(tmp_path, "etc/ld.so.conf.d/vendor.conf", "# of the vendor\n/opt/vendor/lib  # here\n")
    add_file(tmp_path, f"{folder}/libisal.so.2")
    assert find_library(["libisal.so.9", "libisal.so.2"], tmp_path) == tmp_path / folder / "libisal.so.2"


def test_a_library_that_is_elsewhere_is_not_found(tmp_path: Path) -> None:
    add_file(tmp_path, "opt/libisal.so.2")
    assert find_library(["libisal.so.2"], tmp_path) is None
    assert look_for_library("ISA-L", ["libisal.so.2"], tmp_path) == Sighting(
        present=False, missing=("ISA-L (libisal.so.2)",)
    )


def test_the_search_path_counts_on_this_machine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_file(tmp_path, "here/libvantun-test.so.1")
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path / 'here'}")
    assert find_library(["libvantun-test.so.1"], Path("/")) == tmp_path / "here/libvantun-test.so.1"
    assert find_library(["libvantun-test.so.1"], tmp_path) is None


def test_pci_devices_are_read(tmp_path: Path) -> None:
    add_pci(tmp_path, "0000:3b:00.0", 0x10DE, 0x2330, 0x030200)
    add_pci(tmp_path, "0000:6b:00.0", 0x8086, 0x4940, 0x0B4000)
    assert [str(each) for each in pci_devices(tmp_path)] == [
        "PCI 10de:2330 at 0000:3b:00.0",
        "PCI 8086:4940 at 0000:6b:00.0",
    ]
    assert look_for_pci("GPU", tmp_path, 0x10DE, kind=0x03).present
    assert not look_for_pci("GPU", tmp_path, 0x10DE, kind=0x02).present
    assert look_for_pci("QAT", tmp_path, 0x8086, (0x4940, 0x4941)).seen == ("QAT: PCI 8086:4940 at 0000:6b:00.0",)
    assert look_for_pci("QAT", tmp_path, 0x8086, (0x4942,)) == Sighting(present=False, missing=("QAT",))


@pytest.mark.parametrize("text", ["", "0x", "sixteen"])
def test_a_device_that_cannot_be_read_is_not_there(tmp_path: Path, text: str) -> None:
    add_pci(tmp_path, "0000:3b:00.0", 0x10DE, 0x2330, 0x030200)
    add_file(tmp_path, "sys/bus/pci/devices/0000:3b:00.0/vendor", text)
    add_file(tmp_path, "sys/bus/pci/devices/not-a-folder")
    assert list(pci_devices(tmp_path)) == []


def test_paths_are_listed(tmp_path: Path) -> None:
    assert look_for_paths("drivers", tmp_path / "etc", "*.icd") == Sighting(present=False, missing=("drivers",))
    for name in ("pocl.icd", "nvidia.icd", "README"):
        add_file(tmp_path, f"etc/{name}")
    assert look_for_paths("drivers", tmp_path / "etc", "*.icd").seen == ("drivers: nvidia.icd, pocl.icd",)
    assert look_for_paths("drivers", tmp_path / "etc", "*.icd", but="pocl").seen == ("drivers: nvidia.icd",)


def test_a_module_is_found_without_being_imported() -> None:
    sys.modules.pop("this", None)
    assert look_for_module("this").present
    assert "this" not in sys.modules
    assert not look_for_module("no_such_package_of_vantun").present
    assert not look_for_module("no_such_package_of_vantun.part").present


YES, NO = Sighting(present=True, seen=("card",)), Sighting(present=False, missing=("library",))


def test_the_device_decides_and_its_needs_are_told() -> None:
    assert combine(YES, NO) == Sighting(present=True, seen=("card",), missing=("library",))
    assert not combine(NO, YES).present


def test_one_way_is_enough() -> None:
    assert either(NO, YES) == Sighting(present=True, seen=("card",))
    assert either(NO, NO) == Sighting(present=False, missing=("library or library",))
