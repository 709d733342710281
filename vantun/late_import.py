"""Modules that others import at once and need late, or never: they are executed when something of them is used."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType


class _Late(ModuleType):
    """A module that is executed when it is asked for a name for the first time.

    importlib.util.LazyLoader is of no use: up to Python 3.11 the import statement itself asks for a name.
    """

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if spec is None or spec.loader is None:
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]  # first: it asks itself for names while it is executed
        spec.loader.exec_module(self)
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


def _prepare(name: str, path: list[str] | None) -> ModuleType | None:
    """Return a module of ``sys.modules``, where a late one is put if it has none; None if it does not exist."""
    if name in sys.modules:
        return sys.modules[name]
    spec = PathFinder.find_spec(name, path)
    if spec is None:
        return None
    plain = importlib.util.module_from_spec(spec)
    module = sys.modules[name] = _Late(name)
    module.__dict__.update(plain.__dict__)
    return module
