"""The hash table against a dict, where keys collide."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vantun.session.index import FLOW_IDS, find, flow_key, insert, remove
from vantun.wire.integers import uint64

KEYS = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1))


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=60))
def test_index(steps: list[tuple[bool, int]]) -> None:
    keys, values = np.zeros(16, np.uint64), np.zeros(16, np.int32)  # small, so that probes wrap round
    model: dict[int, int] = {}
    for number, (add, key) in enumerate(steps):
        if add and (len(model) < 12 or key in model):
            insert(keys, values, uint64(key), number)
            model[key] = number
        else:
            remove(keys, values, uint64(key))
            model.pop(key, None)
        assert int(np.sum(values > 0)) == len(model)
        for known, value in model.items():
            assert find(keys, values, uint64(known)) == value
        assert find(keys, values, uint64(key)) == model.get(key, -1)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, FLOW_IDS - 1), st.integers(0, FLOW_IDS - 1))
def test_flows_of_different_sessions_have_different_keys(a: int, b: int, x: int, y: int) -> None:
    assert (flow_key(a, x) == flow_key(b, y)) == ((a, x) == (b, y))
