"""Building the library of kernels: what numba compiled for a rehearsal becomes one shared object for each CPU level.

:mod:`~accel.aot.record` listens to a rehearsal, :mod:`~accel.aot.merge` makes one LLVM module of all kernels,
:mod:`~accel.aot.trampoline` gives each an entry that takes one pointer, :mod:`~accel.aot.runtime` stands in for numba's
runtime, :mod:`~accel.aot.emit` writes objects and links them. Needs numba, llvmlite and ``ld``; used at package build
and by ``vantun accel warm``, never while serving.
"""
