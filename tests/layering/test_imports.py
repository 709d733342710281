"""Imports go down only: drivers <- accel <- vantun. Each rule says why, and a failure repeats it."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Rule:
    """No file below ``folder`` (except below ``spared``) imports ``banned``."""

    folder: str
    banned: tuple[str, ...]
    why: str
    spared: tuple[str, ...] = ()


RULES = (
    Rule("drivers", ("accel", "vantun"), "drivers say how to reach a device; policy above them must stay replaceable"),
    Rule(
        "accel",
        ("vantun",),
        "engines compute on arrays; one that knew the protocol could not be compared with the reference",
    ),
    Rule("fpga", ("vantun", "accel", "drivers"), "fpga/ is data with a build, never a package"),
    Rule(
        "vantun",
        ("aioquic",),
        "aioquic is the control connection only; everything else must survive a change of QUIC library",
        spared=("vantun/control",),
    ),
    Rule("accel", ("aioquic",), "engines know nothing of QUIC libraries"),
    Rule("drivers", ("aioquic",), "drivers know nothing of QUIC libraries"),
    *(
        Rule(
            folder,
            ("time", "socket", "asyncio", "random", "os", "secrets", "threading", "select"),
            "protocol code is sans-IO: time is an argument, so that a lossy hour is tested in a second, exactly",
        )
        for folder in ("vantun/wire", "vantun/session")
    ),
)


def imported_names(path: Path) -> list[tuple[str, int]]:
    """Return every module that a file imports, at any depth of the file, with its line."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides which layer it reaches"
            found.append((node.module or "", node.lineno))
    return found


def source_files(folder: str, spared: tuple[str, ...] = ()) -> list[Path]:
    return [
        path
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / other) for other in spared)
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.folder}-not-{rule.banned[0]}")
def test_imports_go_down_only(rule: Rule) -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in source_files(rule.folder, rule.spared)
        for name, line in imported_names(path)
        if name.split(".")[0] in rule.banned
    ]
    assert not broken, f"{'; '.join(broken)}. Why not: {rule.why}."


def test_the_rules_see_the_code() -> None:
    """A renamed folder must not switch a rule off in silence."""
    for folder in ("drivers", "accel", "vantun", "vantun/control", "vantun/wire", "vantun/session"):
        assert source_files(folder), f"{folder} has no Python files; has it moved? Then mend the rules."


HEAVY = ("numba", "llvmlite", "cupy", "pyopencl", "aioquic")


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after ``statement``."""
    return {name.split(".")[0] for name in modules_of(statement)}


def modules_of(statement: str) -> set[str]:
    """Return all modules that a fresh interpreter has loaded after ``statement``."""
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{statement} fails: {done.stderr.strip().splitlines()[-1:]}"
    return set(done.stdout.split())


def test_the_command_line_is_light() -> None:
    """`vantun --version` and every error message wait for these imports; numba alone costs half a second."""
    heavy = imported_by("import vantun.cli") & {*HEAVY, "numpy", "cryptography", "asyncio", "yaml", "rich"}
    assert not heavy, f"import vantun.cli pulls in {', '.join(sorted(heavy))}: import it where it is used"


VERBS = ["server", "client", "demo", "status", "speedtest", "check", "config", "cert", "user", "reload", "accel"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_light_until_it_runs(verb: str) -> None:
    """`vantun --help` and shell completion import every verb, on machines that lack what a device library needs."""
    heavy = imported_by(f"import vantun.cli.{verb}") & set(HEAVY)
    assert not heavy, f"import vantun.cli.{verb} pulls in {', '.join(sorted(heavy))}: import it where it is used"


RARE = {
    "attr",
    "difflib",
    "h11",
    "idna",
    "llvmlite",
    "numba",
    "prometheus_client",
    "statistics",
    "typing_extensions",
    "zipfile",
}
"""Each stays in memory for ever: 2 MB for prometheus-client, 1.5 MB for what compares a certificate with a name, as
much for pyOpenSSL (typing_extensions), 1 MB for importlib.metadata (zipfile), half of that for h11."""


def test_a_started_server_has_loaded_nothing_that_it_may_never_use() -> None:
    idle = imported_by("import vantun.control.server, vantun.control.appliance") & RARE
    assert not idle, f"import vantun.control.server pulls in {', '.join(sorted(idle))}: import it where it is used"


@pytest.mark.parametrize("roots", ["vantun.dataplane.nursery, vantun.dataplane.worker_loop, vantun.dataplane.wake"])
def test_a_worker_has_loaded_nothing_that_it_may_never_use(roots: str) -> None:
    idle = imported_by(f"import {roots}") & {*RARE, "aioquic", "argparse", "asyncio", "click", "cryptography", "ssl"}
    assert not idle, f"import {roots} pulls in {', '.join(sorted(idle))}: import it where it is used"


def test_a_worker_without_a_device_has_nothing_for_one() -> None:
    found = modules_of("import vantun.dataplane.nursery, vantun.dataplane.worker_loop")
    assert not {name for name in found if name.startswith(("accel.device", "accel.service.client"))}


def test_a_server_has_nothing_of_a_client() -> None:
    """Its modules are 2 MB."""
    assert not modules_of("import vantun.control.server, vantun.control.appliance") & {"vantun.control.client"}


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_control_process_does_without_numpy(role: str) -> None:
    """It would take 7 MB, and as much more of what comes with it; workers have arrays, their owner has none."""
    statement = (
        f"import vantun.control.{role}, vantun.control.appliance, vantun.control.calibrator; "
        "from vantun.accel_known import known_profile, wanted_services; from vantun.acl import AccessList; "
        "from vantun.config import AccelConfig; from vantun.control.lane_keeper import FloorPage; "
        "config = AccelConfig(); FloorPage(); wanted_services(config); known_profile(config); "
        "AccessList.parse(['allow(10.9.0.0/24)']).packet_rules(); "
        "import vantun.dataplane.config as c; c.rows_for(1 << 27, 1600)"
    )
    heavy = modules_of(statement) & {"numpy", "accel.reference", "vantun.dataplane.pipeline"}
    assert not heavy, f"a control process pulls in {', '.join(sorted(heavy))}: import it where it is used"
