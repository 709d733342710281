"""Build hook of the wheel: compiles the kernels and ships them as ``vantun/compiled``, so that users need no compiler.

``VANTUN_PURE_WHEEL=1`` leaves them out; the wheel is then for every platform, and compiles at the user's. An editable
install never has them: ``vantun accel warm`` makes them there.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_COMMAND = "import sys; from vantun.cli import main; sys.exit(main(['accel', 'warm', '--into', sys.argv[1]]))"


class KernelHook(BuildHookInterface[Any]):
    """Hatchling's hook ``custom``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the install is editable or the wheel is to be pure."""
        if version == "editable" or self.target_name != "wheel" or os.environ.get("VANTUN_PURE_WHEEL") == "1":
            return
        self._work = tempfile.TemporaryDirectory(prefix="vantun-kernels-")  # until finalize
        folder = Path(self._work.name) / "compiled"
        # PYTHONPATH already holds the packages of an isolated build.
        paths = [self.root, *filter(None, [os.environ.get("PYTHONPATH")])]
        cache = str(folder.parent / "cache")
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), CACHE_DIRECTORY=cache)
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, str(folder)], cwd=self.root, env=environment, check=False
        )
        if done.returncode:
            raise RuntimeError("the kernels could not be compiled (see above); VANTUN_PURE_WHEEL=1 leaves them out")
        shutil.rmtree(cache)
        build_data["force_include"][str(folder)] = "vantun/compiled"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was packed."""
        work = getattr(self, "_work", None)
        if work is not None:
            work.cleanup()
