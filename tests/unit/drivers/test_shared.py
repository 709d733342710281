"""Pages that several processes see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drivers.errors import DriverError, SystemCallError
from drivers.shared import SharedPage

ROOT = Path(__file__).parents[3]
FLOORS = np.dtype([("reserved", np.int64), ("received", np.int64)])

CHILD = """
import sys
from drivers.shared import SharedPage
page = SharedPage.attach(int(sys.argv[1]), [("reserved", "i8"), ("received", "i8")], (4,))
assert page.array["reserved"][2] == 7
page.array["received"][3] = 1 << 40
page.close()
"""


@pytest.mark.slow
def test_another_process_sees_and_writes_the_same_numbers() -> None:
    with SharedPage.create(FLOORS, (4,)) as page:
        assert not page.array["received"].any()
        page.array["reserved"][2] = 7
        command = [sys.executable, "-c", CHILD, str(page.fd)]
        subprocess.run(command, cwd=ROOT, pass_fds=[page.fd], timeout=30, check=True)
        assert page.array["received"].tolist() == [0, 0, 0, 1 << 40]


def test_a_view_outlives_close() -> None:
    page = SharedPage.create(np.uint64, (3, 5))
    other = SharedPage.attach(os.dup(page.fd), np.uint64, (3, 5))
    view = page.array
    page.close()
    page.close()
    assert page.fd == -1
    view[2, 4] = 9
    assert other.array[2, 4] == 9
    other.close()
    with pytest.raises(DriverError, match="is closed"):
        _ = other.array


def test_a_page_cannot_be_shrunk_under_its_readers() -> None:
    with SharedPage.create(np.uint8, (4096,)) as page, pytest.raises(PermissionError):
        os.ftruncate(page.fd, 0)


def test_what_is_no_page_or_too_small_is_refused() -> None:
    with SharedPage.create(np.uint8, (64,)) as page, pytest.raises(DriverError, match="64 bytes"):
        SharedPage.attach(page.fd, np.uint64, (64,))
    reading, writing = os.pipe()
    try:
        with pytest.raises(SystemCallError, match="pass the `fd` of a SharedPage"):
            SharedPage.attach(reading, np.uint8, (1,))
    finally:
        os.close(reading)
        os.close(writing)
    shrinkable = os.memfd_create("x")
    try:
        os.ftruncate(shrinkable, 64)
        with pytest.raises(DriverError, match="seals"):
            SharedPage.attach(shrinkable, np.uint8, (64,))
    finally:
        os.close(shrinkable)


@pytest.mark.parametrize(("kind", "shape"), [(np.uint8, (0,)), (object, (4,))])
def test_what_cannot_be_shared_is_refused(kind: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(DriverError, match="cannot hold"):
        SharedPage.create(kind, shape)
