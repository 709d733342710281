"""Building the library of kernels: a rehearsal of everything an appliance does, then one object for each CPU level."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accel.aot.emit import emit_object, levels_of, link, require_linker
from accel.aot.failure import BuildError
from accel.aot.ir_modules import ir_object
from accel.aot.merge import merge
from accel.aot.record import Recorder
from accel.ir import MODULES, crc
from accel.kernels.crc32c import crc32c
from drivers.kernel import observe
from drivers.kernel_library import FORMAT, MANIFEST, digest
from drivers.linux.exchange import exchange
from vantun.kernel_cache import ROOT

_PACKAGES = ("drivers", "accel", "vantun")
_OURS = re.compile(r"library\.json|kernels-.*\.so|tried-[0-9a-f]+")
Say = Callable[[str], None]


def build_library(folder: Path, say: Say, levels: Sequence[str] = ()) -> list[str]:
    """Write a library into ``folder``, in place of the one that is there; return the names of its kernels.

    Must be called in a process that has run no kernel yet. ``levels`` are CPU levels (default: all of this machine's
    kind); ``say`` is told of every step.

    Raises
    ------
    BuildError
        What cannot be compiled or linked, and the next step.
    """
    _check(folder)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder, say):
        return _build(folder, say, levels or levels_of(platform.machine()))


def _check(folder: Path) -> None:
    """Find out before minutes of compiling what would fail after them."""
    for name in ("NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT", "NUMBA_DEBUGINFO"):
        if os.environ.get(name, "0") not in ("", "0"):
            raise BuildError(f"{name} is set, and would be compiled into the library; unset it")
    require_linker()
    if folder.is_symlink() or folder.exists():
        strangers = [] if folder.is_dir() else [folder.name]
        if folder.is_dir():
            strangers = sorted(path.name for path in folder.iterdir() if not _OURS.fullmatch(path.name))
        if strangers:
            raise BuildError(f"{folder} is no library ({strangers[0]} is in it) and is left alone; name another folder")


@contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """Hold the lock of a folder, and remove what builds that were killed have left of it."""
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for path in folder.parent.glob(f".{folder.name}.*.building"):
            shutil.rmtree(path, ignore_errors=True)
        yield


def _build(folder: Path, say: Say, levels: Sequence[str]) -> list[str]:
    recorder, described = Recorder(), describe_sources()
    observe(recorder)
    say("compiling kernels (minutes, unless numba has them in its cache)")
    try:
        rehearse()
    finally:
        observe(None)
    recorded = [recorder.seen[name] for name in sorted(recorder.seen)]
    module, entries = merge(recorded, _compiled_crc32c())
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
    try:
        modules = _write_ir(work)
        objects = {}
        for level in levels:
            say(f"emitting {len(entries)} kernels for {level}")
            objects[level] = _write_level(work, module, level, modules)
        check_unchanged(described)
        manifest = {
            "format": FORMAT,
            "machine": platform.machine(),
            "sources": described,
            "objects": objects,
            "choices": {crc.CHOOSE: [sorted(needs) for needs in crc.FORMS.values()]},
            "entries": entries,
        }
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in modules:
            path.unlink()
        _replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return list(entries)


def rehearse() -> None:
    """Run every kernel that an appliance calls from Python, each with the types that it is called with."""
    from accel.aead.cryptography import CryptographyAead
    from accel.selftest import self_test
    from vantun.dataplane.warm import main
    from vantun.lab.warm import warm_lab

    main()
    warm_lab()
    fallback = CryptographyAead()  # serves where no engine of our own can
    for operation in sorted(fallback.operations, key=lambda each: each.value):
        verdict = self_test(fallback, operation)
        if not verdict.passed:
            raise BuildError(f"the engine cryptography fails its self-test: {verdict.reason}; reinstall cryptography")


def describe_sources() -> dict[str, str]:
    """Return the digest of every file that kernels are made of, by its name below the packages' folder."""
    return {str(path.relative_to(ROOT)): digest(path) for path in sorted(sources())}


def check_unchanged(described: dict[str, str]) -> None:
    """Raise BuildError if files are no longer what they were: the library would be taken for one made of the new ones.

    Compiling takes minutes, in which an upgrade may come; workers would compile for themselves what does not fit.
    """
    now = describe_sources()
    changed = sorted(name for name in described.keys() | now.keys() if described.get(name) != now.get(name))
    if changed:
        raise BuildError(f"{changed[0]} has changed while kernels were compiled; run `vantun accel warm` again")


def sources() -> set[Path]:
    """Return every file that has a kernel, and those that it imports from our packages: constants are compiled in."""
    # The rehearsals, without what they import: they say what there is, not what it does.
    found = {path for path in (ROOT / "vantun").rglob("*warm.py") if path.parent.name != "cli"}
    waiting = [
        path
        for package in _PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "\n@kernel\n" in path.read_text() or path.parent.name in ("ir", "aot")
    ]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


def _imports(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        for name in names:
            if name.split(".")[0] in _PACKAGES:
                for place in (ROOT / f"{name.replace('.', '/')}.py", ROOT / name.replace(".", "/") / "__init__.py"):
                    if place.exists():
                        yield place


def _compiled_crc32c() -> Any:
    import numpy as np

    kernel: Any = crc32c
    digits = np.frombuffer(b"123456789", np.uint8).copy()
    kernel.dispatcher(digits, 0, 9)
    return kernel.dispatcher.overloads[tuple(kernel.dispatcher.typeof_pyval(each) for each in (digits, 0, 9))]


def _write_ir(work: Path) -> list[Path]:
    paths = []
    for name in MODULES:
        path = work / f"{name}.o"
        path.write_bytes(ir_object(name))
        paths.append(path)
    return paths


def _write_level(work: Path, module: Any, level: str, others: Sequence[Path]) -> dict[str, str]:
    made = work / f"{level}.so"
    part = work / f"{level}.o"
    part.write_bytes(emit_object(module, level))
    link([part, *others], made)
    part.unlink()
    # The name has the digest: a manifest that was read before another build took its place leads to no file of that.
    path = made.rename(work / f"kernels-{level}-{digest(made)}.so")
    return {"file": path.name, "digest": digest(path)}


def _replace(work: Path, folder: Path) -> None:
    """Put ``work`` in the place of ``folder``, in one step; who has the old files open keeps them."""
    for path in work.iterdir():
        path.chmod(0o644)
    work.chmod(0o755)
    if not folder.exists():
        os.rename(work, folder)
    else:
        exchange(work, folder)
        shutil.rmtree(work)
