"""nftables by its program: rule sets in, atomically, and counters out.

`nft` is the interface that distributions keep stable across kernels; a call costs about 10 ms, so it belongs into a
thread when an event loop waits. Source: nft(8), libnftables-json(5).
"""

from __future__ import annotations

import json
import shutil
import subprocess

from drivers.errors import Capability, DriverError, Unavailable

_SECONDS = 10.0
_SEARCH = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")
"""Where `nft` is besides $PATH: a service often has no sbin in its own."""


class NftError(DriverError):
    """nft refused a rule set."""


def find_nft() -> str | None:
    """Return the program's file, None if it is not installed."""
    return shutil.which("nft") or shutil.which("nft", path=":".join(_SEARCH))


def probe_nft() -> Capability | Unavailable:
    """Return whether rule sets can be set; changes nothing."""
    program = find_nft()
    if program is None:
        return Unavailable("the program nft is not installed", "install the package nftables")
    try:
        Nft(program).tables()
    except NftError as error:
        return Unavailable(str(error), "the kernel needs nf_tables, and this process CAP_NET_ADMIN")
    return Capability("nftables", {"program": program})


_PRIVILEGE = (
    "; run as root or give CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN; containers: --cap-add NET_ADMIN)"
)


class Nft:
    """The rule sets of the network namespace of the calling thread. Methods raise NftError."""

    def __init__(self, program: str) -> None:
        self._program = program

    def apply(self, script: str) -> None:
        """Do everything in ``script``, or nothing."""
        self._run(["-f", "-"], script)

    def tables(self) -> set[tuple[str, str]]:
        """Return (family, name) of every table."""
        found = self._list("tables")
        return {(str(entry["family"]), str(entry["name"])) for entry in found if entry}

    def delete(self, family: str, table: str) -> None:
        """Remove a table; nothing happens when there is none."""
        self.apply(f"table {family} {table} {{ }}\ndelete table {family} {table}\n")

    def counters(self, family: str, table: str) -> dict[str, int]:
        """Return the packets of every named counter of a table."""
        found = self._list("counters", "table", family, table)
        return {str(entry["name"]): int(str(entry["packets"])) for entry in found if "packets" in entry}

    def _list(self, *what: str) -> list[dict[str, object]]:
        try:
            document = json.loads(self._run(["-j", "list", *what], ""))
            entries = document["nftables"]
            return [value for entry in entries for kind, value in entry.items() if kind != "metainfo"]
        except (ValueError, KeyError, AttributeError) as error:
            raise NftError(f"nft gave an answer that is not understood ({error}); update nftables") from None

    def _run(self, arguments: list[str], script: str) -> str:
        command = [self._program, *arguments]
        try:
            done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NftError(f"{' '.join(command)} could not be run: {error}") from None
        if done.returncode:
            # the rule that is refused stands in the lines behind the message
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            said = " ".join(lines[:2]) or f"exit code {done.returncode}"
            raise NftError(f"nft refuses the rules: {said}{_PRIVILEGE if 'not permitted' in said else ''}")
        return done.stdout
