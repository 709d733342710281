"""The worker's last words."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from vantun.dataplane.control_socket import complain


def test_a_full_disk_behind_the_log_kills_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails
    monkeypatch.setattr(sys, "stderr", full)
    complain("nobody will read this")
    with suppress(OSError):
        full.close()
