"""The process that has a GPU for all data workers, with the kernels of this installation: see accel/service/main.py."""

from __future__ import annotations

import sys

from vantun.kernel_cache import use_kernel_cache

MODULE = "vantun.engine_service"


def main() -> int:
    """Do what the arguments say; return the exit status."""
    use_kernel_cache()
    from accel.service.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
