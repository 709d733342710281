"""How both ends come to the slices of a session: each has its lanes, keys and connection ids, by one key exchange."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from vantun.control import server_path
from vantun.control.messages import Welcome
from vantun.control.path_events import PathEvent, PathRefused, PathUp, SessionIdentity
from vantun.control.places import MAX_SLICES, Places
from vantun.control.server_paths import ServerPaths
from vantun.lab.link import LinkProfile

CLEAN = LinkProfile(delay=0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificate")


def made(folder: Path, workers: int) -> Pair:
    """Return a pair whose server has so many workers."""
    config = server_config(folder)
    pair = Pair(config, client_config(folder), CLEAN)
    pair.server = ServerPaths(config, places=Places(workers))
    return pair


def up(pair: Pair, number: int, workers: int, identity: SessionIdentity | None = None) -> tuple[PathUp, PathUp]:
    """Return what both ends learn of a path."""
    pair.connect(number, identity, down=90_000_000, workers=workers)

    def found(events: list[PathEvent]) -> list[PathUp]:
        return [event for event in events if isinstance(event, PathUp)]

    assert pair.run(5.0, lambda: bool(found(pair.events[number]))), pair.events[number]
    return found(pair.events[number])[-1], found(pair.server_events)[-1]


@pytest.mark.parametrize(("client", "server"), [(1, 1), (2, 2), (3, 2), (1, 4), (20, 3)])
def test_slices_of_both_ends_belong_together(folder: Path, client: int, server: int) -> None:
    near, far = up(made(folder, server), 0, client)
    count = min(client, MAX_SLICES)
    assert len(near.lanes) == len(far.lanes) == count
    for part, (ours, theirs) in enumerate(zip(near.lanes, far.lanes, strict=True)):
        assert ours.slice == theirs.slice == part
        assert (ours.session, ours.path, ours.suite) == (theirs.session, theirs.path, theirs.suite)
        assert (ours.receive_cid, ours.send_cid) == (theirs.send_cid, theirs.receive_cid)
        assert (ours.receive_secret, ours.send_secret) == (theirs.send_secret, theirs.receive_secret)
        assert (ours.receive_cid[0], theirs.receive_cid[0]) == (part, part % server)
        assert (theirs.cap or theirs.rate) == 90_000_000 / count
    secrets = {secret for lane in near.lanes for secret in (lane.receive_secret, lane.send_secret)}
    assert len(secrets) == 2 * count, "no two lanes have a key together"


def test_a_second_path_finds_its_slices_where_they_are(folder: Path) -> None:
    pair = made(folder, 3)
    up(pair, 9, 1)  # another session, on worker 0
    first, far = up(pair, 0, 2)
    _, again = up(pair, 1, 2, SessionIdentity(first.lane.session, first.tokens[0]))
    assert [lane.receive_cid[0] for lane in far.lanes] == [lane.receive_cid[0] for lane in again.lanes] == [1, 2]


def test_a_server_that_knows_no_slices_grants_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def old(*fields: object) -> Welcome:
        return replace(Welcome(*fields), slices=(), resets=())  # type: ignore[arg-type]

    monkeypatch.setattr(server_path, "Welcome", old)
    near, _ = up(made(folder, 2), 0, 4)
    assert len(near.lanes) == 1
    assert near.lane.receive_cid[0] == 0


def test_more_slices_than_were_offered_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*fields: object) -> Welcome:
        return replace(Welcome(*fields), slices=(b"slice  1", b"slice  2"), resets=())  # type: ignore[arg-type]

    monkeypatch.setattr(server_path, "Welcome", greedy)
    pair = made(folder, 1)
    pair.connect(0, workers=2)
    assert pair.run(5.0, lambda: any(isinstance(event, PathRefused) for event in pair.events[0]))
    (refusal,) = [event for event in pair.events[0] if isinstance(event, PathRefused)]
    assert "grants 3 slices where 2 were offered" in str(refusal.error)
