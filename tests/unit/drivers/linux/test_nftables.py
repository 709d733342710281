from __future__ import annotations

from pathlib import Path

import pytest

from drivers.errors import Capability, Unavailable
from drivers.linux import nftables
from drivers.linux.nftables import Nft, NftError, find_nft, probe_nft
from tests.netns import inside, namespaces, why_not

needs_namespace = pytest.mark.skipif(bool(why_not()) or find_nft() is None, reason=why_not() or "nft is not installed")
RULES = """
table inet vantun_t { }
delete table inet vantun_t
table inet vantun_t {
  counter refused { }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "t" counter name refused drop
  }
}
"""


@needs_namespace
def test_a_table_is_replaced_counted_and_removed() -> None:
    program = find_nft()
    assert program is not None
    with namespaces(1) as (name,), inside(name):
        assert isinstance(probe_nft(), Capability)
        nft = Nft(program)
        for _ in range(2):
            nft.apply(RULES)
            assert nft.tables() == {("inet", "vantun_t")}
        assert nft.counters("inet", "vantun_t") == {"refused": 0}
        for _ in range(2):
            nft.delete("inet", "vantun_t")
            assert nft.tables() == set()


@needs_namespace
def test_rules_that_are_refused_change_nothing_and_are_named() -> None:
    program = find_nft()
    assert program is not None
    with namespaces(1) as (name,), inside(name):
        nft = Nft(program)
        with pytest.raises(NftError, match="hook nowhere"):
            nft.apply("table inet good { }\ntable inet bad { chain c { type filter hook nowhere priority 0; } }\n")
        assert nft.tables() == set()
        with pytest.raises(NftError, match="No such file"):
            nft.counters("inet", "nobody")


def test_without_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nftables, "_SEARCH", (str(tmp_path),))
    found = probe_nft()
    assert isinstance(found, Unavailable)
    assert "install the package nftables" in str(found)
    with pytest.raises(NftError, match="could not be run"):
        Nft(str(tmp_path / "nft")).tables()


def test_an_answer_that_is_none(tmp_path: Path) -> None:
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(NftError, match="not understood"):
        Nft(str(program)).tables()
