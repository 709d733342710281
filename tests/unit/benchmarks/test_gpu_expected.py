"""What GPU kernels should take, counted in their code: blocks, loops and cases of a text; bounds; the real kernels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from accel.sight import find_module
from benchmarks import gpu_code, gpu_expected
from benchmarks.gpu_code import Loop, blocks_of, count, disassembler, executions, loops_of
from benchmarks.gpu_expected import CARDS, Cost, cost_of, expected_of, markdown
from benchmarks.gpu_work import DECODE, ENCODE, SEAL, WORKS, Work
from drivers.errors import DriverError

TEXT = """
.text.other:
        /*0000*/                   MOV R1, R2 ;
.text.kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/               @P0 EXIT ;
.L_x_1:
        /*0020*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0030*/              @!P1 BRA `(.L_x_2) ;
        /*0040*/                   IMAD.WIDE.U32 R2, R3, 0x4, R4 ;
.L_x_2:
        /*0050*/                   ISETP.GE.U32.AND P1, PT, R0, 0x2, PT ;
        /*0060*/               @P1 BRA `(.L_x_3) ;
        /*0070*/                   BRX R40 -0x80    (*"BRANCH_TARGETS .L_x_4,.L_x_5,.L_x_6"*);
.L_x_4:
        /*0080*/                   LOP3.LUT R1, R2, R3, R4, 0x96, !PT ;
        /*0090*/                   BRA `(.L_x_6) ;
.L_x_5:
        /*00a0*/                   LOP3.LUT R1, R2, R3, R4, 0x96, !PT ;
        /*00b0*/                   LOP3.LUT R1, R2, R3, R4, 0x96, !PT ;
        /*00c0*/                   BRA `(.L_x_6) ;
.L_x_3:
        /*00d0*/                   LOP3.LUT R1, R2, R3, R4, 0x96, !PT ;
        /*00e0*/                   LOP3.LUT R1, R2, R3, R4, 0x96, !PT ;
        /*00f0*/                   LOP3.LUT R1, R2, R3, R4, 0x96, !PT ;
.L_x_6:
        /*0100*/              @!P0 BRA P2, `(.L_x_1) ;
        /*0110*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0120*/                   EXIT ;
.L_x_7:
        /*0130*/                   BRA `(.L_x_7) ;
"""


def test_what_an_item_executes() -> None:
    blocks = blocks_of(TEXT, "kernel")
    assert len(loops_of(blocks)) == 1
    counts = count(TEXT, "kernel", (30,))
    assert counts["LDC"] == counts["STG.128"] == 1
    assert counts["LDG.128"] == counts["IMAD.WIDE"] == counts["ISETP"] == 30  # an ``if`` counts as taken
    assert counts["LOP3"] == pytest.approx(30 * (1 + 2 + 3) / 3)  # each case for a third of the columns
    assert counts["BRX"] == pytest.approx(20)


def test_loops_within_loops() -> None:
    text = "\n".join((
        ".text.kernel:", ".L_x_1:", "/*0000*/ MOV R1, R2 ;", ".L_x_2:", "/*0010*/ SHF.R R1, R2 ;",
        "/*0020*/ @P0 BRA `(.L_x_2) ;", "/*0030*/ @P1 BRA `(.L_x_1) ;", "/*0040*/ EXIT ;",
    ))  # fmt: skip
    assert loops_of(blocks_of(text, "kernel")) == [Loop(0, 2), Loop(1, 1)]
    counts = count(text, "kernel", (3, 5))
    assert (counts["MOV"], counts["SHF"]) == (3, 15)
    with pytest.raises(ValueError, match="2 loops are in the code, turns were given for 1"):
        executions(blocks_of(text, "kernel"), (3,))


COST = Cost(alu=5.0, fma=1.0, every=8.0, clocks=0.1, traffic=1.4, registers=64, warps=32)


def test_bounds_of_a_card() -> None:
    card = replace(CARDS[0], multiprocessors=100, clock=1e9, memory=2e12)
    found = expected_of(Work(ENCODE), COST, card)
    assert found.logic == pytest.approx(1e12)
    assert found.memory == pytest.approx(0.9 * 2e12 / 1.4)
    assert found.rate == found.logic
    assert found.share == pytest.approx(found.logic / min(0.9 * 2e12 / 1.4, 100 * 64e9 / (168 / 32)))
    assert "| encode (10,4) | H100 SXM | 1000 | 1286 |" in markdown({"encode (10,4)": COST}, [found])


def test_without_tools_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(work: Work) -> Cost:
        raise DriverError("nvdisasm is not there: pip install nvidia-cuda-nvdisasm")

    monkeypatch.setattr(gpu_expected, "cost_of", refuse)
    assert gpu_expected.main([]) == 1
    assert "pip install nvidia-cuda-nvdisasm" in capsys.readouterr().err
    monkeypatch.setattr(gpu_code, "disassembler", lambda: None)
    with pytest.raises(DriverError, match="nvdisasm is not there"):
        gpu_code.disassemble(b"")


def test_everything_is_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_expected, "cost_of", lambda work: COST)
    assert gpu_expected.main(["--json", str(tmp_path / "expected.json")]) == 0
    document = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    assert document["costs"].keys() == {work.name for work in WORKS}
    assert len(document["expected"]) == len(WORKS) * len(CARDS)
    capsys.readouterr()
    assert gpu_expected.main(["--json", "-"]) == 0
    assert json.loads("{" + capsys.readouterr().out.partition("\n{")[2]) == document
    assert [path.name for path in tmp_path.iterdir()] == ["expected.json"]


needs_tools = pytest.mark.skipif(
    not find_module("cuda.bindings") or disassembler() is None,
    reason="NVRTC and nvdisasm: pip install cuda-bindings nvidia-cuda-nvrtc nvidia-cuda-nvdisasm",
)


@needs_tools
@pytest.mark.parametrize(
    ("work", "most"),
    [
        (Work(ENCODE), 5.2),
        (Work(DECODE), 9.5),
        (Work(SEAL), 76.0),
        *(pytest.param(work, 110.0, marks=pytest.mark.soak) for work in WORKS),
    ],
    ids=lambda value: value.name if isinstance(value, Work) else "",
)
def test_our_kernels_take_no_more_logic_for_a_byte_than_was_counted(work: Work, most: float) -> None:
    assert cost_of(work).alu <= most
