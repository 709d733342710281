"""A page of numbers that several processes see: counters, and packet-number floors that must survive a worker.

The page is an anonymous file (memfd). Its descriptor is what another process needs to attach: pass it by inheritance or
SCM_RIGHTS. There is no lock: one process writes a field, others read it. Aligned 8-byte stores and loads are atomic on
x86-64 and aarch64; a set of fields that must agree needs a sequence number of its own.

numpy is imported where an array is wanted: a process that only makes pages for others does without it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from drivers.errors import DriverError, SystemCallError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class SharedPage:
    """Memory that other processes can attach to; made by :meth:`create`, :meth:`reserve` or :meth:`attach`.

    As with an arena, the mapping lives until the last view of :attr:`array` is gone.

    Attributes
    ----------
    fd
        The descriptor to pass on, -1 once closed.
    """

    def __init__(self, descriptor: int, size: int, dtype: DTypeLike = "u1", shape: tuple[int, ...] = (-1,)) -> None:
        self.fd = descriptor
        self._memory: mmap.mmap | None = mmap.mmap(descriptor, size)
        self._kind = dtype, shape
        self._array: NDArray[Any] | None = None

    @classmethod
    def create(cls, dtype: DTypeLike, shape: tuple[int, ...], name: str = "vantun") -> SharedPage:
        """Return a new page of zeros.

        Parameters
        ----------
        dtype, shape
            Of the array; a structured dtype gives its columns names.
        name
            What ``/proc/<pid>/maps`` calls it.

        Raises
        ------
        DriverError
            When dtype or shape cannot be shared.
        SystemCallError
            When the kernel gives no memory.
        """
        return cls._made(_size(dtype, shape), name, dtype, shape)

    @classmethod
    def reserve(cls, size: int, name: str = "vantun") -> SharedPage:
        """Return a new page of ``size`` > 0 zeros, whose array is of bytes; whoever attaches says what it holds.

        Raises SystemCallError when the kernel gives no memory.
        """
        return cls._made(size, name)

    @classmethod
    def _made(cls, size: int, name: str, *kind: Any) -> SharedPage:
        doing = f"making a shared page of {size} bytes ({name})"
        descriptor = -1
        try:
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(descriptor, size)
            # A process that shrinks the file would kill every other with SIGBUS.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return cls(descriptor, size, *kind)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise SystemCallError(doing, error.errno or 0, "free memory, or raise the limit on open files") from None

    @classmethod
    def attach(cls, fd: int, dtype: DTypeLike, shape: tuple[int, ...]) -> SharedPage:
        """Return the page behind ``fd``, which belongs to the returned object from now on.

        Raises
        ------
        DriverError
            When the page is smaller than ``shape`` of ``dtype``, or can be shrunk: reading it could kill this process.
        SystemCallError
            When ``fd`` is no shared page.
        """
        need = _size(dtype, shape)
        try:
            size, seals = os.fstat(fd).st_size, fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            step = "pass the `fd` of a SharedPage"
            raise SystemCallError(f"attaching to shared page {fd}", error.errno or 0, step) from None
        if size < need or seals & _SEALS != _SEALS:
            raise DriverError(
                f"shared page {fd} has {size} bytes and seals {seals:#x}, {need} bytes and {_SEALS:#x} are expected; "
                "it comes from another version of VANTUN, start all of its processes again"
            )
        return cls(fd, need, dtype, shape)

    @property
    def memory(self) -> mmap.mmap:
        """The shared bytes; raises DriverError once closed."""
        if self._memory is None:
            raise DriverError("this shared page is closed; use it before close()")
        return self._memory

    @property
    def array(self) -> NDArray[Any]:
        """The shared array; raises DriverError once closed."""
        if self._array is None:
            import numpy as np

            dtype, shape = self._kind
            self._array = np.frombuffer(self.memory, dtype).reshape(shape)
        return self._array

    def close(self) -> None:
        """Give up the descriptor and this hold of the memory; other processes keep theirs. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self._memory = self._array = None

    def __enter__(self) -> SharedPage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _size(dtype: DTypeLike, shape: tuple[int, ...]) -> int:
    """Return the bytes of an array; raises DriverError when it has none, or holds objects."""
    import numpy as np

    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if kind.hasobject or size == 0:
        raise DriverError(f"a shared page cannot hold {shape} of {kind}; give a plain dtype and a shape without 0")
    return size
