from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE, Kind, Row
from accel.engine import Operation, Provenance
from accel.sight import Sighting
from tests.unit.accel.machine import add_file, add_pci

ROWS = {row.name: row for row in CATALOGUE}


def look(name: str, sysroot: Path) -> Sighting:
    return ROWS[name].look(sysroot)


def test_every_row_of_the_design_is_declared() -> None:
    assert set(ROWS) == {
        "reference", "simd", "isal", "ipsec-mb", "openssl", "cryptography",
        "cuda", "opencl", "pocl", "fpga", "sim-fpga", "qat", "smartnic",
    }  # fmt: skip
    assert len(ROWS) == len(CATALOGUE)


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_an_engine_is_what_its_row_says(row: Row) -> None:
    assert set(row.make) <= set(row.kinds)
    for kind, make in row.make.items():
        engine = make()
        assert (engine.name, engine.provenance, engine.maturity) == (row.name, row.provenance, row.maturity)
        assert set(kind.operations) <= engine.operations


def test_the_kinds_share_out_the_operations() -> None:
    assert [operation for kind in Kind for operation in kind.operations] == list(Operation)


def test_emulators_say_so() -> None:
    assert {row.name for row in CATALOGUE if row.emulated} == {"pocl", "sim-fpga"}
    assert {row.name for row in CATALOGUE if row.provenance is Provenance.SILICON} == {
        "cuda", "opencl", "fpga", "qat", "smartnic",
    }  # fmt: skip


PACKAGES = {"simd", "cryptography", "pocl", "reference"}
"""Engines that a Python package may bring, wherever the rest of the machine is looked for."""


@pytest.mark.parametrize("name", sorted(set(ROWS) - PACKAGES))
def test_an_empty_machine_has_nothing(name: str, tmp_path: Path) -> None:
    found = look(name, tmp_path)
    assert not found.present
    assert found.missing


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("isal", "usr/lib/x86_64-linux-gnu/libisal.so.2"),
        ("ipsec-mb", "usr/lib/libIPSec_MB.so.1"),
        ("openssl", "lib/libcrypto.so.3"),
        ("cuda", "dev/nvidia0"),
        ("opencl", "etc/OpenCL/vendors/nvidia.icd"),
        ("pocl", "etc/OpenCL/vendors/pocl.icd"),
        ("fpga", "dev/xdma0_user"),
        ("fpga", "sys/class/fpga_manager/fpga0"),
    ],
)
def test_a_file_shows_a_device(name: str, file: str, tmp_path: Path) -> None:
    add_file(tmp_path, file)
    others = PACKAGES - {name}
    assert [each for each in ROWS if each not in others and look(each, tmp_path).present] == [name]


@pytest.mark.parametrize(
    ("name", "vendor", "device", "kind"),
    [
        ("cuda", 0x10DE, 0x2330, 0x030200),
        ("fpga", 0x10EE, 0x5000, 0x120000),
        ("qat", 0x8086, 0x4941, 0x0B4000),
        ("smartnic", 0x15B3, 0xA2DC, 0x020000),
    ],
)
def test_a_card_is_seen_and_what_it_lacks_is_told(
    name: str, vendor: int, device: int, kind: int, tmp_path: Path
) -> None:
    add_pci(tmp_path, "0000:65:00.0", vendor, device, kind)
    found = look(name, tmp_path)
    assert found.present
    assert f"PCI {vendor:04x}:{device:04x} at 0000:65:00.0" in found.seen[0]
    assert name == "fpga" or found.missing


def test_an_ordinary_nic_is_no_smartnic(tmp_path: Path) -> None:
    add_pci(tmp_path, "0000:65:00.0", 0x15B3, 0x101D, 0x020000)
    assert not look("smartnic", tmp_path).present


def test_the_catalogue_is_light() -> None:
    script = "import sys, accel.catalogue; print(*{'numba', 'cryptography', 'cupy', 'pyopencl'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
