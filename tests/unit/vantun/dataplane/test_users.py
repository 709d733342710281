from __future__ import annotations

from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.users import OTHERS, UserBook
from vantun.lab.network import lab_engines
from vantun.session.limits import MAX_USERS, Limits


def test_rows_are_kept_and_the_idle_make_room() -> None:
    plane = Dataplane(DataplaneConfig(limits=Limits(sessions=4, flows=8, rows=256)), lab_engines())
    book = UserBook(plane.context)
    alice = book.begin("alice")
    assert book.begin("alice") == alice != OTHERS
    plane.context.tables.user[alice]["received_bytes"] = 77
    rows = {book.begin(f"user {number}") for number in range(MAX_USERS - 2)}
    assert len(rows) == MAX_USERS - 2
    assert book.begin("one too many") == OTHERS
    book.end(alice)
    book.end(alice)
    assert book.begin("another") == alice  # she has no session any more
    assert plane.context.tables.user[alice]["received_bytes"] == 0
    assert {row["user"] for row in book.snapshot()} >= {"another", "user 1"}


def test_a_limit_stays_for_a_user_who_comes_later() -> None:
    plane = Dataplane(DataplaneConfig(limits=Limits(sessions=4, flows=8, rows=256)), lab_engines())
    book = UserBook(plane.context)
    book.begin("bob")
    book.limit({"alice": (8e6, 4e6)}, 1.0)
    book.begin("alice")
    limits = {row["user"]: (row["send_limit_bps"], row["receive_limit_bps"]) for row in book.snapshot()}
    assert limits == {"alice": (8_000_000, 4_000_000), "bob": (0, 0)}
    book.limit({"bob": (1e6, 0.0)}, 2.0)
    limits = {row["user"]: (row["send_limit_bps"], row["receive_limit_bps"]) for row in book.snapshot()}
    assert limits == {"alice": (0, 0), "bob": (1_000_000, 0)}
