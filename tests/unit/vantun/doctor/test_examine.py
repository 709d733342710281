from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from vantun.cli import doctor
from vantun.doctor import examine as module
from vantun.doctor import system
from vantun.doctor.examine import examine
from vantun.doctor.finding import Finding, Level, ok, problem, warning


def test_every_check_has_a_finding_on_this_machine() -> None:
    found = examine(None)
    subjects = {finding.subject for finding in found}
    assert {"Python", "packages", "kernel", "open files", "UDP GSO", "clock", "nftables"} <= subjects
    assert all(finding.fix for finding in found if finding.level is not Level.OK)


def test_a_machine_without_proc_is_examined_too(tmp_path: Path) -> None:
    assert {finding.level for finding in examine(None, tmp_path)} >= {Level.PROBLEM}


def test_a_check_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_root: Path) -> Finding:
        raise ValueError("nonsense in /proc")

    monkeypatch.setattr(system, "kernel_release", broken)
    found = examine(None)
    assert any("nonsense in /proc" in finding.text for finding in found)
    assert any(finding.subject == "clock" for finding in found)


@pytest.mark.parametrize(
    ("finding", "options", "code"),
    [
        (ok("a", "b"), [], 0),
        (warning("a", "b", "c"), [], 0),
        (warning("a", "b", "c"), ["--strict"], 3),
        (problem("a", "b", "do this"), ["--json"], 1),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, finding: Finding, options: list[str], code: int) -> None:
    monkeypatch.setattr(module, "examine", lambda _config: [finding])
    result = CliRunner().invoke(doctor.command, options, standalone_mode=False)
    assert result.return_value == code
    assert finding.fix in result.output
