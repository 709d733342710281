"""``python -m vantun`` is the ``vantun`` command."""

from __future__ import annotations

import sys

from vantun.cli import main

if __name__ == "__main__":
    sys.exit(main())
