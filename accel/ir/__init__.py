"""Generators of LLVM IR for instructions that numba has no word for. Used when kernels are built, never while serving.

A module here has ``text() -> str``: one IR module with every variant of its kernels. A variant carries the features it
needs in the attributes of its function (``"target-features"="+avx2,+vaes"``), so all of them lie in one object, on any
machine; :mod:`accel.native` finds them by name, and who calls one has looked at :mod:`drivers.cpu` before.
"""

MODULES = ("aead", "calls", "fec")
"""Those with a whole module in their ``text()``; the other files here write parts of them."""
