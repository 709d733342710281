from __future__ import annotations

import pytest

from accel.calibration import BATCHES, shapes_of
from accel.engine import Operation
from vantun.dataplane.sizes import UNITS, most_rows
from vantun.session.coding import make_spans
from vantun.session.tables import DECODES


def test_as_many_spans_as_there_is_room_for() -> None:
    assert [most_rows(Operation.FEC_ENCODE, k) for k in (4, 10, 32, 64, 128)] == [256, 256, 256, 128, 64]
    assert most_rows(Operation.FEC_DECODE, 1) == DECODES
    assert most_rows(Operation.FEC_DECODE, 10) == UNITS // 10
    assert len(make_spans(1, UNITS).data) == UNITS


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_what_is_submitted_is_also_measured(operation: Operation) -> None:
    """The largest batch of a worker lies between two that calibration measures, or is one of them."""
    for shape in shapes_of(operation):
        most = most_rows(operation, shape.k)
        assert min(BATCHES) <= most
        assert max(batch for batch in BATCHES if batch <= most) >= 256
