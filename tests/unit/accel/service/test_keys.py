from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import KeySpec, Operation, Suite
from accel.service.columns import MOST_SLOTS, PAGE, place_of_key
from accel.service.keys import MOST_PAGES, ClientKeys, KeyTable
from drivers.errors import DriverError


def key(seed: int) -> KeySpec:
    return KeySpec(Suite.AES_128_GCM, bytes([seed & 255] * 16), bytes(12), bytes([seed >> 8 & 255] * 16))


class Table:
    """The device's slots, as a dictionary."""

    operation = Operation.AEAD_SEAL

    def __init__(self) -> None:
        self.specs: dict[int, KeySpec] = {}

    def install_key(self, slot: int, spec: KeySpec) -> None:
        self.specs[slot] = spec

    def remove_key(self, slot: int) -> None:
        del self.specs[slot]

    def close(self) -> None:
        self.specs.clear()


SLOTS = st.sampled_from((0, 1, 2, 62, 63, 64, 65, 127, 128, 640, MOST_SLOTS - 1))


@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ir"), SLOTS), max_size=40),
    leaving=st.integers(0, 2),
)
def test_a_client_reaches_its_own_keys_and_no_other(steps: list[tuple[int, str, int]], leaving: int) -> None:
    device = Table()
    table = KeyTable(device)
    clients = [ClientKeys(table) for _ in range(3)]
    held: list[dict[int, KeySpec]] = [{}, {}, {}]
    for turn, (client, verb, slot) in enumerate(steps):
        if verb == "i":
            held[client][slot] = key(1 + turn)
            clients[client].install(slot, key(1 + turn))
        else:
            held[client].pop(slot, None)
            clients[client].remove(slot)
    clients[leaving].close()
    held[leaving].clear()
    asked = [*range(-2, 130), 639, 640, 641, MOST_SLOTS - 1, MOST_SLOTS, 1 << 30]
    for keys, own in zip(clients, held, strict=True):
        for slot in asked:
            place = place_of_key(keys.pages, slot)
            found = device.specs.get(place) if place >= 0 else None
            assert found == own.get(slot)
            if place >= 0:  # the other key phase
                assert device.specs.get(place + 1) == own.get(slot + 1)
    copies = sum(1 for own in held for slot in own if slot and slot % PAGE == 0)
    assert len(device.specs) == sum(map(len, held)) + copies


def test_bounds() -> None:
    keys = ClientKeys(KeyTable(Table()))
    for slot in (-1, MOST_SLOTS):
        with pytest.raises(DriverError, match="numbered from 0"):
            keys.install(slot, key(1))
        keys.remove(slot)
    for page in range(MOST_PAGES):
        keys.install(page * PAGE + 1, key(page))
    with pytest.raises(DriverError, match="pages"):
        keys.install(MOST_PAGES * PAGE + 1, key(1))


def test_a_page_that_is_given_back_is_used_again() -> None:
    device = Table()
    table = KeyTable(device)
    first, second = ClientKeys(table), ClientKeys(table)
    first.install(5, key(1))
    place = place_of_key(first.pages, 5)
    first.close()
    assert not device.specs
    other = ClientKeys(table)
    other.install(5, key(3))  # while something of the first may be on its way
    assert place_of_key(other.pages, 5) != place
    first.settle()
    second.install(5, key(2))
    assert place_of_key(second.pages, 5) == place
    assert place_of_key(first.pages, 5) == -1
