from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

from drivers.errors import DriverError, SystemCallError
from drivers.reserve import Reserve

SIZE = 2 * mmap.PAGESIZE


def file(content: bytes) -> int:
    descriptor = os.memfd_create("vantun-test", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE)
    os.pwrite(descriptor, content, 0)
    return descriptor


def test_files_lie_beside_each_other_in_one_array() -> None:
    reserve = Reserve(3, SIZE)
    files = [file(b"one"), file(b"two")]
    first, second = (reserve.map(each) for each in files)
    assert {first, second} == {0, SIZE}
    assert reserve.memory[first : first + 3].tobytes() == b"one"
    assert reserve.memory[second : second + 3].tobytes() == b"two"
    reserve.memory[second + 3] = 33
    assert os.pread(files[1], 4, 0) == b"two!"
    reserve.unmap(first)
    assert reserve.map(files[1]) == first
    assert reserve.memory[first : first + 4].tobytes() == b"two!"
    for each in files:
        os.close(each)
    reserve.close()
    reserve.close()
    assert len(reserve.memory) == 0


def test_when_every_place_is_taken() -> None:
    reserve = Reserve(1, SIZE)
    descriptor = file(b"")
    reserve.map(descriptor)
    with pytest.raises(DriverError, match="taken"):
        reserve.map(descriptor)
    reserve.unmap(0)
    with pytest.raises(SystemCallError, match="Bad file descriptor"):
        reserve.map(1 << 20)
    assert reserve.map(descriptor) == 0
    os.close(descriptor)
    reserve.close()


def test_more_addresses_than_there_are() -> None:
    with pytest.raises(SystemCallError, match="address space"):
        Reserve(1 << 20, 1 << 40)


def test_what_is_not_mapped_ends_who_touches_it() -> None:
    reserve = Reserve(1, SIZE)
    child = os.fork()
    if child == 0:
        np.add(reserve.memory[:1], 1)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 11
    reserve.close()
