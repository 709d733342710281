"""The decorator of compiled kernels: functions in numba's nopython subset, written once, in Python.

A running appliance finds its kernels in a library that was compiled ahead of time (:mod:`drivers.kernel_library`) and
imports no compiler. Where there is no library, or a call does not fit it, numba compiles the same source when it is
called first, which takes numba's import in every process, and minutes for all kernels the first time.

``VANTUN_KERNELS`` chooses: ``auto`` (default) as above, ``jit`` always numba, ``native`` never numba: what the library
cannot do is a :class:`KernelError`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from drivers.kernel_calls import Arguments
    from drivers.kernel_library import KernelLibrary, NoLibrary

Function = TypeVar("Function", bound=Callable[..., Any])
Observer = Callable[["Kernel", "Arguments"], None]

MODES = ("auto", "native", "jit")


class KernelError(RuntimeError):
    """A kernel that cannot run, or whose compiled code has reported an error."""


class _State:
    """What all kernels of a process share."""

    mode: str | None = None
    find: Callable[[], KernelLibrary | NoLibrary] | None = None
    library: KernelLibrary | NoLibrary | None = None
    observer: Observer | None = None
    because = ""
    preparations: list[Callable[[], None]]


_state = _State()
_state.preparations = []


def mode() -> str:
    """Return the value of VANTUN_KERNELS in force; raises KernelError when it is not one of MODES."""
    if _state.mode is None:
        chosen = os.environ.get("VANTUN_KERNELS") or "auto"
        if chosen not in MODES:
            raise KernelError(f"VANTUN_KERNELS is {chosen!r}; it can be {', '.join(MODES)}")
        _state.mode = chosen
    return _state.mode


def use_library(find: Callable[[], KernelLibrary | NoLibrary]) -> None:
    """Say who finds the library; ``find`` is called when the first kernel is."""
    _state.find = find
    _state.library = None


def library() -> KernelLibrary | NoLibrary:
    """Return the library of this process, or why there is none."""
    from drivers.kernel_library import NoLibrary

    if _state.library is None:
        if mode() == "jit":
            _state.library = NoLibrary("VANTUN_KERNELS is jit", "unset it")
        elif _state.find is None:
            _state.library = NoLibrary("this program looks for none", "call vantun.kernel_cache.use_kernel_cache first")
        else:
            _state.library = _state.find()
    return _state.library


def observe(observer: Observer | None) -> None:
    """Have every call from Python made by numba, and ``observer`` told of it afterwards; None ends that.

    Must be called before the first kernel: it is how a rehearsal learns what the library must hold.
    """
    _state.observer = observer


def compiled_because() -> str:
    """Return why numba had to compile a kernel in this process, and the next step; empty if it did not have to."""
    return _state.because


def note_compiled(name: str, why: str, next_step: str) -> None:
    """Note, and log once in a process, that something was compiled that a library should have had."""
    if not _state.because and mode() != "jit":
        _state.because = f"{name}: {why}; {next_step or 'vantun accel warm'}"
        import logging  # for this line alone

        logging.getLogger(__name__).info("kernels are compiled in this process, first %s", _state.because)


def before_compiling(preparation: Callable[[], None]) -> Callable[[], None]:
    """Run ``preparation`` once before numba compiles anything: for what a module must tell numba (decorator)."""
    _state.preparations.append(preparation)
    return preparation


class Kernel:
    """One kernel. Calls from Python take positional arguments; another kernel calls it as numba's own.

    Attributes
    ----------
    py_func
        The source.
    name
        ``module.function``: its name in the library.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._call: Callable[..., Any] = self._first

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        return self._call(*arguments)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """Numba's object for this kernel."""
        from numba import njit

        while _state.preparations:
            _state.preparations.pop()()
        return njit(cache=True)(self.py_func)

    @property
    def _numba_type_(self) -> Any:  # numba asks for this when a kernel names another one
        from numba import types

        return types.Dispatcher(self.dispatcher)

    @property
    def signatures(self) -> list[Any]:
        """What numba has compiled in this process, empty if nothing (never imports numba)."""
        made = self.__dict__.get("dispatcher")
        return list(made.signatures) if made is not None else []

    def _first(self, *arguments: Any) -> Any:
        if _state.observer is not None:
            self._call = self._observed
        else:
            found = library()
            entry = found.entry(self.name)
            if entry is not None:
                self._call = entry.bind(self._refused)
            else:
                self._call = self._compiled(found.reason or "the library does not have it", found.next_step)
        return self._call(*arguments)

    def _observed(self, *arguments: Any) -> Any:
        result = self.dispatcher(*arguments)
        if _state.observer is not None:
            _state.observer(self, arguments)
        return result

    def _refused(self, arguments: Arguments, why: str) -> Any:
        """Make a call that does not fit the library's code."""
        return self._compiled(why, "report it, with the log")(*arguments)

    def _compiled(self, why: str, next_step: str) -> Any:
        """Return numba's code for the kernel, unless numba must not be used."""
        if mode() == "native":
            raise KernelError(f"kernel {self.name}: {why}; {next_step}")
        try:
            found = self.dispatcher
        except ImportError as error:
            raise KernelError(
                f"kernel {self.name} is not in a library ({why}), and numba, which would compile it, is missing; "
                f"{next_step or 'vantun accel warm'}, or pip install 'vantun[jit]'"
            ) from error
        note_compiled(self.name, why, next_step)
        return found


def kernel(function: Function) -> Function:
    """Return ``function`` compiled; what it may say is numba's nopython subset.

    It must not be called by a signal handler or a finaliser: those may run while the same kernel's arguments are laid.
    """
    return cast(Function, Kernel(function))
