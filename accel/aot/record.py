"""What a rehearsal calls from Python, and with which types: the entries that the library must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accel.aot.failure import BuildError
from drivers.kernel import Kernel
from drivers.kernel_calls import ALIGNED, C_CONTIGUOUS, WRITEABLE, Arguments, Kind, dtype_mark

_SCALARS = {"int64": "i8", "uint64": "u8", "float64": "f8", "bool": "b1", "none": "none"}
_NARROW = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
_VALUES = {**_SCALARS, **dict.fromkeys(_NARROW, "i8")}
"""numba boxes narrow results as int, so the caller need not know their width."""


@dataclass(frozen=True)
class Recorded:
    """A kernel with the one signature that Python calls it with.

    Attributes
    ----------
    result
        numba's type of the result.
    """

    kernel: Kernel
    types: tuple[Any, ...]
    result: Any
    arguments: tuple[Kind, ...]
    result_kind: Kind

    @property
    def compiled(self) -> Any:
        """Numba's result of compiling it."""
        return self.kernel.dispatcher.overloads[self.types]


class Recorder:
    """An observer for :func:`drivers.kernel.observe`."""

    def __init__(self) -> None:
        self.seen: dict[str, Recorded] = {}

    def __call__(self, kernel: Kernel, arguments: Arguments) -> None:
        """Note a call.

        Raises
        ------
        BuildError
            When Python calls the kernel with two signatures, or with something that an entry cannot take.
        """
        known = self.seen.get(kernel.name)
        types = tuple(kernel.dispatcher.typeof_pyval(argument) for argument in arguments)
        if known is None:
            result = kernel.dispatcher.overloads[types].signature.return_type
            kinds = tuple(_argument(kernel.name, each, value) for each, value in zip(types, arguments, strict=True))
            self.seen[kernel.name] = Recorded(kernel, types, result, kinds, _result(kernel.name, result))
        elif known.types != types:
            raise BuildError(
                f"kernel {kernel.name} is called from Python with two signatures, {known.types} and {types}; "
                "give its callers the same types"
            )


def _argument(name: str, numba_type: Any, value: Any) -> Kind:
    from numba import types

    if isinstance(numba_type, types.Array):
        if numba_type.layout not in "CA":
            raise BuildError(f"kernel {name} is called with an array of layout {numba_type.layout}")
        flags = (
            C_CONTIGUOUS * (numba_type.layout == "C") | WRITEABLE * numba_type.mutable | ALIGNED * numba_type.aligned
        )
        return ["array", numba_type.ndim, dtype_mark(value.dtype), flags]
    if isinstance(numba_type, types.BaseTuple):
        return ["tuple", [_argument(name, each, item) for each, item in zip(numba_type, value, strict=True)], ""]
    if str(numba_type) in ("int64", "uint64", "float64", "bool"):
        return _SCALARS[str(numba_type)]
    raise BuildError(f"kernel {name} is called with {numba_type}; pass int, float or arrays")


def _result(name: str, numba_type: Any) -> Kind:
    from numba import types

    if isinstance(numba_type, types.BaseTuple):
        made = getattr(numba_type, "instance_class", tuple)
        known = "" if made is tuple else f"{made.__module__}:{made.__qualname__}"
        return ["tuple", [_result(name, each) for each in numba_type], known]
    plain = types.unliteral(numba_type)
    if str(plain) in _VALUES:
        return _VALUES[str(plain)]
    raise BuildError(f"kernel {name} returns {numba_type} to Python; return numbers or tuples of numbers")
