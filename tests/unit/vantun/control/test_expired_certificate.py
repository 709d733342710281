"""A server whose certificate has expired: the client says so, and what to do."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from tests.unit.vantun.control.test_quic_paths import CLEAN, refused
from vantun.control import certificates
from vantun.errors import CertificateError


def test_a_certificate_that_has_expired_names_both_that_can_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Then:
            then = datetime.now(tz) - timedelta(days=20)
            return cls(*then.timetuple()[:6], tzinfo=tz)

    with monkeypatch.context() as past:
        past.setattr(certificates, "datetime", Then)
        config = server_config(tmp_path)  # valid for ten days
    found = refused(Pair(config, client_config(tmp_path), CLEAN), 0)
    assert isinstance(found.error, CertificateError)
    assert not found.retry
    assert "no longer valid" in str(found.error)
    assert "renew it" in str(found.error)
    assert "clock" in str(found.error)
