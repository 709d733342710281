from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE, Kind
from accel.engine import Operation
from accel.fingerprint import fingerprint
from accel.profile import Cell, Finding, Profile, save_profile
from vantun import cli

SERVER = "tls: {cert: cert.pem, key: key.pem}\nauth: {type: password, password: s3cret}\n"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state folder in which nothing was measured yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "vantun"


def probe(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["accel", "probe", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_every_engine_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = probe(capsys)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert {row.name for row in CATALOGUE} <= {line[0] for line in lines if line}
    assert "fec.encode: simd, first by rank; nothing was measured" in out
    for heading in ("operation", "state", "self-test", "selected for", "provenance", "maturity", "next step"):
        assert heading in out
    assert "not seen" not in out


def test_verbose_says_what_was_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = probe(capsys, "--verbose")
    assert code == 0
    assert "not seen" in out
    assert "qatlib (libqat.so.4)" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = probe(capsys, "--json", "--strict")
    found = json.loads(out)
    assert code == 0
    assert [each["engine"] for each in found["engines"]] == [row.name for row in CATALOGUE]
    assert set(found["engines"][0]) == {
        "engine", "kinds", "present", "usable", "operations", "selected", "provenance", "maturity", "through",
        "reason", "next_step", "seen", "missing", "by_operation",
    }  # fmt: skip
    assert found["engines"][0]["selected"] == ["fec.encode", "fec.decode", "aead.seal", "aead.open"]
    assert found["selected"]["aead.seal"] == {
        "engine": "simd",
        "reason": "first by rank; nothing was measured",
        "degraded": False,
        "engines": [found["selected"]["aead.seal"]["engine"]],
    }
    assert (found["problems"], found["degraded"]) == ([], False)


@pytest.mark.parametrize(
    ("accel", "code", "told"),
    [
        ("{fec: reference}", 0, "fec.encode: reference, named in the configuration"),
        ("{aead: 'qat, ?smartnic'}", 3, "aead.seal: simd, first by rank"),
        ("{aead: '?qat'}", 0, "aead.seal: simd, first by rank"),
        ("{aead: 'only: qat'}", 3, "warning: accel.aead: no engine can do aead.seal"),
        ("{fec: smid}", 3, "warning: accel.fec: there is no engine 'smid' for this; did you mean 'simd'?"),
    ],
)
def test_strict_wants_what_the_file_wants(
    accel: str, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(f"{SERVER}accel: {accel}\n")
    assert probe(capsys, "-c", str(file))[0] == 0
    ended, out, err = probe(capsys, "-c", str(file), "--strict")
    assert ended == code
    assert told in out + err


def test_a_client_file_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "client.yaml"
    file.write_text("server: example.org:443\nauth: s3cret\naccel: {fec: '!simd, !isal'}\n")
    code, out, _ = probe(capsys, "-c", str(file), "--json")
    assert code == 0
    assert json.loads(out)["selected"]["fec.decode"]["engine"] == "reference"


def measured(state: Path, *cells: Cell) -> None:
    """Write down what a machine like this one has measured."""
    names = {"fec": ("simd", "isal"), "aead": ("simd", "cryptography", "ipsec-mb", "openssl")}
    tested: dict[str, dict[str, Finding]] = {}
    for operation in Operation:
        for name in (*names[operation.value.split(".")[0]], "reference"):
            tested.setdefault(name, {})[operation.value] = Finding(
                passed=True, reason="self-test passed (1 jobs, 1 rows)"
            )
    save_profile(state / "engines.json", Profile(fingerprint(), time.time() - 5, cells, tested))


def cell(engine: str, batch: int, wall: float, cpu: float) -> Cell:
    return Cell(engine, "aead.seal", "1350 B", 1350, batch, wall, cpu, wall, batch * 1350)


CELLS = [
    cell(engine, batch, wall * batch, cpu * batch)
    for engine, wall, cpu in (("simd", 100.0, 100.0), ("cryptography", 1000.0, 50.0))
    for batch in (1, 32, 256)
]


def test_figures_are_those_that_were_measured(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(state, *CELLS)
    code, out, _ = probe(capsys, "--json")
    assert code == 0
    found = {each["engine"]: each for each in json.loads(out)["engines"]}
    simd = next(each for each in found["simd"]["by_operation"] if each["operation"] == "aead.seal")
    assert simd == {
        "operation": "aead.seal",
        "state": "serving",
        "self_test": "PASS",
        "reason": "self-test passed (1 jobs, 1 rows)",
        "selected_for": "all",
        "kernels": [],
        "shape": "1350 B",
        "batches": {str(batch): {"ns_per_packet": 100.0, "gb_per_s": 13.5} for batch in (1, 32, 256)},
    }
    assert "100/100/100" in probe(capsys)[1]


def test_nothing_heavy_is_loaded_when_everything_is_known(state: Path) -> None:
    """A probe takes less than a second: it reads what was found out before."""
    measured(state, *CELLS)
    script = "import sys; from vantun import cli; cli.main(['accel', 'probe']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "13.5/13.5/13.5" in done.stdout
    assert not {"numba", "llvmlite"} & set(done.stderr.split())


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["accel", "explain", *arguments]) == 0
    return capsys.readouterr().out


def test_explain(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing was measured: nothing was measured yet; `vantun accel probe --deep`" in explain(
        capsys, "fec.encode"
    )
    measured(state, *CELLS)
    out = explain(capsys, "aead.seal", "--batch", "40")
    assert "aead.seal, 40 x 1350 B: simd, measured best for throughput (goal throughput)" in out
    assert "accel.goal: cpu -> cryptography" in out
    assert "accel.aead: 'openssl' -> openssl" in out
    assert "a fault of simd -> cryptography, at once" in out
    told = json.loads(explain(capsys, "aead.seal", "--json", "--accel", "aead=cryptography@100:", "--batch", "200"))
    assert (told["engine"], told["serves_from_batch"]) == ("cryptography", 100)
    assert told["reason"] == "named in the configuration from 100 rows on"
    assert {row["engine"]: row["measured"] for row in told["engines"]}["simd"]["wall_ns_per_packet"] == 100.0


def test_explain_says_which_kernels_an_engine_has_chosen(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found out once, in a child process, and kept in the profile."""
    tested = {"simd": {"aead.seal": Finding(passed=True, reason="passed", kernels=("(10, 4): the fast ones",))}}
    save_profile(state / "engines.json", Profile(fingerprint(), time.time() - 5, tuple(CELLS), tested))
    out = explain(capsys, "aead.seal")
    assert "Kernels that simd has tried here, and which serve:\n  (10, 4): the fast ones" in out
    rows = json.loads(explain(capsys, "aead.seal", "--json"))["engines"]
    assert {row["engine"]: row["kernels"] for row in rows}["simd"] == ["(10, 4): the fast ones"]


def test_explain_says_for_which_batches(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(state, *CELLS)
    found = json.loads(explain(capsys, "aead.seal", "--json", "--accel", "goal=cpu"))["chosen_for"]
    said = {(each["engine"], each["shape"]): each for each in found}
    assert said["cryptography", "1350 B"]["verdict"] == "all"
    assert said["cryptography", "1350 B"]["batches"] == [[1, 512]]
    assert (
        said["simd", "1350 B"]["verdict"]
        == "never on this machine: at best 2.00 times the CPU time of cryptography, at 1"
    )
    assert said["pocl", ""]["provenance"] == "emulator"
    assert {each["engine"] for each in found} == {row.name for row in CATALOGUE if Kind.AEAD in row.kinds}
    out = explain(capsys, "aead.seal")
    assert "Who would be chosen for which batches" in out
    assert "pocl (emulator)" in out


def test_accel_option_and_its_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = probe(capsys, "--accel", "off")
    assert "aead.open: reference, named in the configuration" in out
    code, _, err = probe(capsys, "--accel", "aaed=simd")
    assert code == 2
    assert "did you mean 'aead'?" in err


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_mistake_in_the_option_of_an_appliance(role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"{role}.yaml"
    file.write_text(SERVER if role == "server" else "server: example.org:443\nauth: s3cret\n")
    assert cli.main([role, "-c", str(file), "--accel", "goal=fastest"]) == 2
    assert "--accel: goal=fastest: not throughput, cpu or latency" in capsys.readouterr().err
