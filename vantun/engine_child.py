"""The child process that tries and measures engines, with the kernels of this installation: see accel/child.py."""

from __future__ import annotations

import sys

from vantun.kernel_cache import use_kernel_cache

MODULE = "vantun.engine_child"


def main() -> int:
    """Do what the arguments say; return the exit status."""
    use_kernel_cache()
    from accel.child_main import main

    return main(module=MODULE)


if __name__ == "__main__":
    sys.exit(main())
