"""Modules that others import at once and need late, or never: they are executed when something of them is used."""

from __future__ import annotations

import _thread
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType

_locks: dict[str, _thread.RLock] = {}  # of threading, which is 0.2 MB by itself, they would be
_executed: set[str] = set()


class _Late(ModuleType):
    """A module that is executed when it is asked for a name for the first time.

    importlib.util.LazyLoader is of no use: up to Python 3.11 the import statement itself asks for a name.
    """

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if spec is None or spec.loader is None:
            raise AttributeError(name)
        with _locks[spec.name]:  # another thread waits until all names are there
            if type(self) is _Late:
                if spec.name in _executed:
                    raise AttributeError(name)  # it asks itself for names while it is executed
                _executed.add(spec.name)
                try:
                    spec.loader.exec_module(self)
                finally:
                    _executed.discard(spec.name)
                self.__class__ = ModuleType  # type: ignore[assignment]
        return getattr(self, name)


def import_late(name: str) -> None:
    """Have ``import name`` do nothing until an attribute of the module is asked for.

    With ``package.module``, so does ``from package import module``: neither of them is executed.

    For modules of others: our own are imported where they are used. What does not exist fails as ever, at its import.
    """
    package, _, part = name.partition(".")
    parent = _prepare(package, None)
    if not part or not isinstance(parent, _Late):
        return
    module = _prepare(name, parent.__dict__["__path__"])
    if module is not None:
        parent.__dict__[part] = module


def leave_out(name: str) -> None:
    """Have the import of a module of others find an empty one; for what is executed for its effects alone."""
    sys.modules.setdefault(name, ModuleType(name))


def _prepare(name: str, path: list[str] | None) -> ModuleType | None:
    """Return a module of ``sys.modules``, where a late one is put if it has none; None if it does not exist."""
    if name in sys.modules:
        return sys.modules[name]
    spec = PathFinder.find_spec(name, path)
    if spec is None:
        return None
    plain = importlib.util.module_from_spec(spec)
    _locks[name] = _thread.RLock()
    module = sys.modules[name] = _Late(name)
    module.__dict__.update(plain.__dict__)
    return module
