from __future__ import annotations

from dataclasses import replace

import pytest

from vantun.config import ClientConfig, Endpoint, FecConfig, PathConfig
from vantun.control.worker_settings import worker_settings

SERVER = Endpoint("gw.example", 443)
CONFIG = ClientConfig(SERVER, "a:b", (PathConfig("dsl", SERVER),))


def test_what_the_file_says_reaches_the_worker() -> None:
    settings = worker_settings(replace(CONFIG, fec=FecConfig(False, 0.01, 0.2)))
    assert (settings.fec, settings.residual_loss, settings.overhead) == (False, 0.01, 0.2)


@pytest.mark.parametrize(("memory", "rows"), [(16_000_000, 10_000), (2**40, 1 << 18), (1, 4096)])
def test_memory_becomes_rows_within_the_tables(memory: int, rows: int) -> None:
    assert worker_settings(replace(CONFIG, memory=memory)).limits.rows == rows
