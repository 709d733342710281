"""Shared libraries that may be missing: declared at import, loaded at first use.

A vendor's library is found when it is first needed, never when a module is imported, so a machine without it pays
nothing and hears about it only when somebody asks for that device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from drivers.errors import Capability, Unavailable


class Library:
    """A shared library, loaded by the first call.

    Parameters
    ----------
    name
        What people call it, e.g. ``"Intel ISA-L"``.
    sonames
        File names to try in order, e.g. ``["libisal.so.2"]``. Give the name with its ABI number: a bare ``.so`` is
        only there with the development package, and may be of another ABI.
    install
        How to get it, as a sentence, e.g. ``"install it: apt-get install libisal2"``.
    """

    def __init__(self, name: str, sonames: Sequence[str], install: str) -> None:
        if not sonames:
            raise ValueError(f"the library {name!r} needs at least one file name to look for")
        self.name = name
        self.sonames = tuple(sonames)
        self.install = install

    def __repr__(self) -> str:
        return f"Library({self.name!r}, {list(self.sonames)!r})"

    @cached_property
    def _found(self) -> ctypes.CDLL | Unavailable:
        refusals = []
        for soname in self.sonames:
            try:
                return ctypes.CDLL(soname, use_errno=True)
            except OSError as error:
                refusals.append(str(error))
        return Unavailable(f"{self.name} cannot be loaded ({'; '.join(refusals)})", self.install)

    def probe(self) -> Capability | Unavailable:
        """Return whether the library can be loaded.

        The library's initialisers run in this process; probe a library that is known to abort in a child process.
        """
        if isinstance(self._found, Unavailable):
            return self._found
        return Capability(self.name, {"file": self._found._name})

    def load(self) -> ctypes.CDLL:
        """Return the loaded library.

        Raises
        ------
        UnavailableError
            When none of the file names can be loaded; says what to install.
        """
        if isinstance(self._found, Unavailable):
            raise self._found.error()
        return self._found

    def function(self, symbol: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """Return ``symbol`` with its prototype set.

        Each call returns an object of its own, so two users of a library cannot spoil each other's prototypes.

        Raises
        ------
        UnavailableError
            When the library, or the symbol in it, is missing (an older version).
        """
        function = self._symbol(symbol)
        function.restype = result
        function.argtypes = list(arguments)
        return function

    def address(self, symbol: str) -> int:
        """Return where function ``symbol`` lies, for code that calls it without ctypes.

        Raises
        ------
        UnavailableError
            As :meth:`function`.
        """
        return ctypes.cast(self._symbol(symbol), ctypes.c_void_p).value or 0

    def _symbol(self, symbol: str) -> ctypes._NamedFuncPointer:
        library = self.load()
        try:
            return library[symbol]
        except AttributeError:
            reason = f"{self.name} ({library._name}) has no function {symbol!r}: it is another version than expected"
            raise Unavailable(reason, self.install).error() from None
