from __future__ import annotations

import socket
from pathlib import Path

from vantun.control.notify import notify


def test_the_manager_hears_it(tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place))
        assert notify("READY=1", {"NOTIFY_SOCKET": str(place)})
        assert manager.recv(100) == b"READY=1"


def test_nobody_wants_to_know() -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "nonsense"})


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})
