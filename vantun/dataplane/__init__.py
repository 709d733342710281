"""The data plane: stages, the pipeline that runs them, and the worker process around it."""

from __future__ import annotations

from vantun.late_import import import_late, leave_out

# What numpy imports, and a worker never uses: 0.7 MB.
import_late("pickle")
leave_out("numpy._core._add_newdocs")  # docstrings of what is written in C
leave_out("numpy._core._add_newdocs_scalars")
