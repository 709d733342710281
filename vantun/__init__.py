"""VANTUN: a tunnel appliance that repairs loss on several network paths at once.

Importing the package checks that its two sister packages are the ones it was installed with: ``accel`` and ``drivers``
are plain names, pip lets any other distribution overwrite them without a word, and what follows then are baffling
import errors far away from the cause.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from vantun.errors import InstallError

__version__ = "0.1.0"


def check_installation() -> None:
    """Compare ``__vantun__`` and the parent folder of ``accel`` and ``drivers`` with this package.

    Raises
    ------
    InstallError
        When one of them is missing, belongs to another distribution, or comes from another VANTUN.
    """
    home = Path(__file__).resolve().parent.parent
    advice = "give VANTUN a virtual environment of its own: `pip install --force-reinstall vantun` in a new one"
    for name in ("accel", "drivers"):
        try:
            sister = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise InstallError(f"the package {name!r}, a part of VANTUN, is missing from {home}; {advice}") from None
        found = getattr(sister, "__vantun__", None)
        where = sister.__file__ or next(iter(sister.__path__), "nowhere")
        if found is None:
            raise InstallError(f"{name!r} at {where} belongs to another distribution, not to VANTUN; {advice}")
        if found != __version__:
            raise InstallError(f"{name!r} at {where} is of VANTUN {found}, but this is VANTUN {__version__}; {advice}")
        if Path(where).resolve().parent.parent != home:
            raise InstallError(f"{name!r} comes from {where}, but VANTUN is installed in {home}; {advice}")


check_installation()
