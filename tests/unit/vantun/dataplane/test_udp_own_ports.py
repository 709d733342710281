"""The ports of direct sockets: a worker's own, and those of all."""

from __future__ import annotations

import os

import numpy as np
import pytest

from drivers.shared import SharedPage
from vantun.dataplane.udp_own_ports import OwnPorts
from vantun.errors import ProtocolError
from vantun.udp_messages import PORTS


def test_a_worker_alone_keeps_them_to_itself() -> None:
    ports = OwnPorts()
    ports.note(65_535)
    assert 65_535 in ports
    assert 65_535 not in OwnPorts()
    ports.forget(65_535)
    assert 65_535 not in ports


def test_workers_with_a_page_know_each_others_and_what_was_noted_before() -> None:
    with SharedPage.create(np.uint8, (PORTS,)) as page:
        one, other = OwnPorts(), OwnPorts()
        one.note(500)
        one.share(0, [page.fd])
        other.share(1, [page.fd])
        other.note(600)
        assert (500 in other, 600 in one, 501 in one) == (True, True, False)
        assert (page.array[500], page.array[600]) == (1, 2)
        one.forget(500)
        assert 500 not in other


def test_a_page_that_was_lost_is_named() -> None:
    with pytest.raises(ProtocolError, match="local ports was lost"):
        OwnPorts().share(0, [])
    descriptor = os.memfd_create("small")
    with pytest.raises(ProtocolError, match="local ports was lost"):
        OwnPorts().share(0, [descriptor])
    os.close(descriptor)
