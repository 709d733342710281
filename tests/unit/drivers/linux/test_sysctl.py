from __future__ import annotations

from pathlib import Path

import pytest

from drivers.errors import SystemCallError
from drivers.linux import sysctl
from tests.netns import inside, namespaces, why_not


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_a_setting_of_a_namespace() -> None:
    with namespaces(1) as (name,), inside(name):
        before = sysctl.read("ipv4/ip_forward")
        assert before is not None
        sysctl.write("ipv4/ip_forward", str(1 - int(before)))
        assert sysctl.read("ipv4/ip_forward") == str(1 - int(before))


def test_what_is_not_there(tmp_path: Path) -> None:
    assert sysctl.read("ipv4/no_such_setting") is None
    with pytest.raises(SystemCallError, match=r"sysctl -w net\.ipv4\.x=1"):
        sysctl.write("ipv4/x", "1", tmp_path)
