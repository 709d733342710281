"""Processors by what /proc/cpuinfo says of them."""

from __future__ import annotations

import pytest

from benchmarks.processor import Processor, parse

X86 = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nstepping\t: {}\n"


@pytest.mark.parametrize(
    ("vendor", "family", "model", "stepping", "name"),
    [
        ("AuthenticAMD", 23, 1, 2, "amd-zen1"),
        ("AuthenticAMD", 23, 49, 0, "amd-zen2"),
        ("AuthenticAMD", 25, 1, 1, "amd-zen3"),
        ("AuthenticAMD", 25, 17, 1, "amd-zen4"),
        ("AuthenticAMD", 25, 160, 2, "amd-zen4"),
        ("AuthenticAMD", 26, 2, 1, "amd-zen5"),
        ("AuthenticAMD", 26, 17, 0, "amd-zen5"),
        ("AuthenticAMD", 27, 3, 4, "amd-f27m3s4"),
        ("AuthenticAMD", 23, 200, 0, "amd-f23m200s0"),
        ("GenuineIntel", 6, 85, 4, "intel-skylake"),
        ("GenuineIntel", 6, 85, 7, "intel-cascade-lake"),
        ("GenuineIntel", 6, 85, 11, "intel-cooper-lake"),
        ("GenuineIntel", 6, 106, 6, "intel-ice-lake"),
        ("GenuineIntel", 6, 143, 8, "intel-sapphire-rapids"),
        ("GenuineIntel", 6, 300, 1, "intel-f6m300s1"),
        ("Shanghai New", 7, 91, 2, "shanghai-new-f7m91s2"),
    ],
)
def test_generations_are_told_apart_by_their_numbers(
    vendor: str, family: int, model: int, stepping: int, name: str
) -> None:
    found = parse(X86.format(vendor, family, model, stepping) + X86.format("other", 1, 1, 1))
    assert found[1:4] == (family, model, stepping)
    assert found.name == name


@pytest.mark.parametrize(
    ("model", "name"), [(167, "intel-xeon-amx"), (143, "intel-sapphire-rapids"), (300, "intel-xeon-amx")]
)
def test_a_model_that_a_hypervisor_made_up_is_not_believed(model: int, name: str) -> None:
    text = X86.format("GenuineIntel", 6, model, 1) + "flags\t\t: fpu avx512f amx_bf16 amx_tile amx_int8\n"
    assert parse(text).name == name


def test_arm_has_parts() -> None:
    text = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {}\nCPU revision\t: 1\n"
    assert parse(text.format("0xd0c")).name == "arm-neoverse-n1"
    assert parse(text.format("0xd99")) == Processor("arm", 8, 0xD99, 1)
    assert parse(text.format("0xd99")).name == "arm-f8m3481s1"


def test_a_kernel_that_says_nothing() -> None:
    assert parse("") == Processor("cpu", -1, -1, -1)
    assert parse(X86.format("GenuineIntel", "six", 85, "unknown"))[1:4] == (-1, 85, -1)
