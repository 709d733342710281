from __future__ import annotations

import pytest

from vantun.config_accel import AccelConfig, override


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", AccelConfig(fec="simd")),
        ("off", AccelConfig("only: reference", "only: reference", calibration="off")),
        ("aead=qat, ?openssl,!cuda", AccelConfig(fec="simd", aead="qat, ?openssl,!cuda")),
        ("aead=qat,fec=only: isal,goal=cpu", AccelConfig(fec="only: isal", aead="qat", goal="cpu")),
        ("fec=", AccelConfig()),
        ("service=off", AccelConfig(fec="simd", service="off")),
        ("plugins=a,b_c,calibration=off", AccelConfig(fec="simd", plugins=("a", "b_c"), calibration="off")),
    ],
)
def test_what_is_said_wins_key_by_key(text: str, expected: AccelConfig) -> None:
    assert override(AccelConfig(fec="simd"), text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simd", "'simd' is no choice of engines; write 'off', or like 'aead=qat,?openssl,fec=only:simd'"),
        ("x, aead=qat", "is no choice of engines"),
        ("aaed=qat", "there is no 'aaed' to choose; did you mean 'aead'?"),
        ("zzz=qat", "there is no 'zzz' to choose; there are: aead, calibration, fec, goal, plugins, service"),
        ("goal=fast", "goal=fast: not throughput, cpu or latency"),
        ("fec=a b", "fec=a b: not engine names separated by commas"),
        ("allow_emulated=true", "is no choice of engines"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        override(AccelConfig(), text)
    assert message in str(caught.value)


def test_the_environment_counts_when_nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTUN_ACCEL", "off")
    assert override(AccelConfig()).fec == "only: reference"
    assert override(AccelConfig(), "goal=cpu") == AccelConfig(goal="cpu")
