from __future__ import annotations

from ipaddress import ip_interface

import pytest

from drivers.linux.nftables import Nft, find_nft
from tests.netns import inside, namespaces, why_not
from vantun.control.tun_firewall import FAMILY, Firewall, table_name

GUARDED = (ip_interface("10.9.0.7/24"), ip_interface("fd00:9::7/64"))
SERVER = Firewall("vantun0", 0x5600, nat=True, between_clients=False)
CLIENT = Firewall("vantun0", 0x5600, restore_marks=True, guarded=GUARDED)


def test_each_part_only_where_it_is_wanted() -> None:
    assert "masquerade" in SERVER.ruleset()
    assert "admin-prohibited" in SERVER.ruleset()
    assert "ct mark" not in SERVER.ruleset()
    assert "masquerade" not in CLIENT.ruleset()
    assert "admin-prohibited" not in CLIENT.ruleset()
    assert "ip6 daddr fd00:9::7 fib saddr type != local" in CLIENT.ruleset()
    for firewall in (SERVER, CLIENT):
        assert 'oifname "vantun0" meta mark 22016 counter name looped drop' in firewall.ruleset()


def test_names_that_nft_takes() -> None:
    assert table_name("wan-1.5") == "vantun_wan_1_5"


@pytest.mark.skipif(bool(why_not()) or find_nft() is None, reason=why_not() or "nft is not installed")
@pytest.mark.parametrize("firewall", [SERVER, CLIENT], ids=["server", "client"])
def test_the_kernel_takes_it_again_and_again(firewall: Firewall) -> None:
    with namespaces(1) as (name,), inside(name):
        nft = Nft(find_nft() or "")
        for _ in range(2):
            nft.apply(firewall.ruleset())
            assert nft.tables() == {(FAMILY, firewall.table)}
            assert nft.counters(FAMILY, firewall.table) == {"looped": 0, "between_clients": 0, "guarded": 0}
