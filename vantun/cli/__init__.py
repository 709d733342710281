"""The ``vantun`` command: one module per verb, imported when its verb is used; render.py is the only printer.

A verb's module has its click command in the attribute ``command`` (or named as the verb). A command returns its exit
code: 0 or None ok, 1 failure, 2 usage, 3 it works but degraded. Errors are one message for people, no traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from vantun import __version__
from vantun.cli import render
from vantun.errors import EXIT_FAILURE, EXIT_OK, VantunError
from vantun.kernel_cache import use_kernel_cache

VERBS = (
    "server",
    "client",
    "demo",
    "status",
    "top",
    "ping",
    "speedtest",
    "doctor",
    "check",
    "config",
    "cert",
    "user",
    "reload",
    "accel",
)
"""In the order of the help page."""


class _Verbs(click.Group):
    """Finds a verb's command in the module of that name, so that no verb pays for the imports of another."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return every verb."""
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import and return a verb's command; None for an unknown verb."""
        if name not in VERBS:
            return None
        module = importlib.import_module(f"vantun.cli.{name}")
        found = getattr(module, "command", None) or getattr(module, name, None)
        if not isinstance(found, click.Command):
            raise TypeError(f"vantun.cli.{name} has no click command called 'command' or {name!r}")
        return found


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="vantun", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, too.")
def cli(debug: bool) -> None:  # noqa: FBT001 - click's calling convention
    """Carry a site's traffic over several lossy paths, and repair loss before anybody notices it."""
    if debug:
        os.environ["VANTUN_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; ``arguments`` default to those of the process."""
    use_kernel_cache()
    try:
        result = cli.main(args=arguments, prog_name="vantun", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        render.error("interrupted")
        return EXIT_FAILURE
    except BrokenPipeError:
        # The reader of our output has gone (`vantun status | head -1`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as error:
        return _explain(error)
    return result if isinstance(result, int) else EXIT_OK


def _explain(error: Exception) -> int:
    """Print one clear message for any error and return the exit code."""
    from drivers.errors import DriverError

    if os.environ.get("VANTUN_DEBUG"):
        render.error("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, VantunError):
        render.error(str(error))
        return error.exit_code
    if isinstance(error, DriverError):
        render.error(str(error))
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        render.error(f"{where}{error.strerror}")
    else:
        kind = type(error).__name__
        render.error(f"a mistake in VANTUN, please report it: {kind}: {error} (`vantun --debug ...` shows where)")
    return EXIT_FAILURE
