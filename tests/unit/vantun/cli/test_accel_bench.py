from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vantun import cli

TINY = ("--seconds", "0.001", "--batch", "1,2", "--size", "200")


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["accel", "bench", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_tables_headlines_and_who_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = bench(capsys, "fec", "--k", "4", "--m", "2", *TINY)
    assert (code, err) == (0, "")
    for text in (
        "fec.encode, k=4, m=2, 200 B",
        "fec.decode, ",
        "memcpy (limit)",
        "GB/s at batch",
        "not measured: cuda",
    ):
        assert text in out
    assert "aead" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = bench(capsys, "aead", "--json", "--baseline", "cryptography", "--suite", "chacha20-poly1305", *TINY)
    found = json.loads(out)
    assert code == 0
    assert {"cpu", "kernel", "vantun", "provenance"} <= set(found)
    assert [each["operation"] for each in found["comparisons"]] == ["aead.seal", "aead.open"]
    seal = found["comparisons"][0]
    assert (seal["baseline"], seal["suite"], seal["size"]) == ("cryptography", "chacha20-poly1305", 200)
    assert [each["batch"] for each in seal["batches"]] == [1, 2]
    assert seal["batches"][0]["cryptography"]["ratio"]["median"] == 1.0
    assert seal["subject"] in [each["engine"] for each in seal["engines"]]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["fec", "--engine", "simt"], 1, "did you mean 'simd'"),
        (["fec", "--engine", "openssl"], 1, "there is no engine 'openssl' for this"),
        (["fec", "--engine", "smartnic"], 1, "engine smartnic cannot do fec.encode: no such engine in this version"),
        (["aead", "--baseline", "cryptograph"], 1, "did you mean 'cryptography'"),
        (["fec", "--k", "129"], 2, "129 is not in the range"),
        (["fec", "--m", "128"], 2, "128 is not in the range"),
        (["fec", "--k", "4", "--m", "5"], 2, "k=4, m=5"),
        (["fec", "--size", "0"], 2, "0 is not in the range"),
        (["aead", "--size", "20"], 2, "packets are from"),
        (["fec", "--batch", "1,x"], 2, "write numbers with commas"),
        (["fec", "--batch", "0"], 2, "a batch has 1 to"),
        (["fec", "--batch", "16384", "--size", "65536"], 2, "14336 MiB, 1024 are allowed"),
        (["fek"], 2, "'fek' is not one of"),
        (["fec", "--plot", "picture.txt"], 2, "a picture's name ends in"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(
    arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = bench(capsys, "--seconds", "0.001", *arguments)
    assert found == code
    assert told in err
    assert out == ""


def test_a_plot_without_matplotlib(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = bench(capsys, "fec", *TINY, "--plot", "picture.svg")
    assert code == 1
    assert "pip install 'vantun[plot]'" in err


def test_a_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'vantun[plot]'")
    picture = tmp_path / "picture.svg"
    code, out, err = bench(capsys, "fec", "--json", *TINY, "--plot", str(picture))
    assert code == 0
    assert json.loads(out)
    assert f"{picture} written" in err.replace("\n", "")
    assert "<svg" in picture.read_text(encoding="utf-8")
