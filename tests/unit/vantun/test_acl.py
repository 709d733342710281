from __future__ import annotations

import ipaddress
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.acl import (
    ACTION_NUMBERS,
    GUARDED,
    AccessList,
    Guard,
    IPAddress,
    Rule,
    normalise_name,
    packet_rule_type,
    parse_rule,
)
from vantun.config_acl import ACL_KEYS, read_acl
from vantun.config_yaml import read_values

LABELS = st.sampled_from(["a", "b", "example", "org"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.sampled_from([entry.network for entry in GUARDED]).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(type(network[0]))
    ),
    st.integers(0, 2**32 - 1).map(lambda number: ipaddress.IPv6Address((0xFFFF << 32) + number)),
    st.integers(0, 2**32 - 1).map(lambda number: ipaddress.IPv6Address((0x64FF9B << 96) + number)),
    st.integers(0, 2**32 - 1).map(lambda number: ipaddress.IPv6Address((0x2002 << 112) + (number << 80))),
)
NETWORKS = st.builds(
    lambda address, bits: (
        ipaddress.ip_network((int(address), min(bits, address.max_prefixlen)), strict=False)
        if address.version == 4
        else ipaddress.ip_network((int(address).to_bytes(16, "big"), bits), strict=False)
    ),
    ADDRESSES,
    st.integers(0, 128),
)
TARGETS = st.one_of(
    st.just("all"),
    NAMES,
    NAMES.map(lambda name: f"suffix:{name}"),
    NAMES.map(lambda name: f"*.{name}"),
    NETWORKS.map(str),
)
PORTS = st.one_of(
    st.just(""),
    st.tuples(st.sampled_from(["tcp", "udp", "*"]), st.integers(1, 9), st.integers(0, 9)).map(
        lambda row: f", {row[0]}/{row[1]}-{row[1] + row[2]}"
    ),
    st.sampled_from([", tcp", ", udp/*", ", */5"]),
)
RULES = st.builds("{}({}{})".format, st.sampled_from(["allow", "reject", "direct"]), TARGETS, PORTS)


def slow_judge(rules: list[str], host: str | None, address: IPAddress | None, port: int, protocol: str) -> str:
    """Decide the same, from the text of the rules, bit by bit."""
    if address is not None and address.version == 6 and int(address) >> 32 == 0xFFFF:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    inner = None
    if address is not None and address.version == 6:
        number = int(address)
        if number >> 32 == 0x64FF9B << 64 or number >> 32 == 0:
            inner = ipaddress.IPv4Address(number & 0xFFFFFFFF)
        elif number >> 112 == 0x2002:
            inner = ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    guarded = any(one is not None and any(one in entry.network for entry in GUARDED) for one in (address, inner))
    for text in rules:
        action, rest = text.removesuffix(")").split("(")
        target, _, limits = rest.partition(", ")
        wanted, _, ports = limits.partition("/")
        if wanted not in ("", "*", protocol):
            continue
        low, _, high = ports.partition("-")
        if low not in ("", "*") and not int(low) <= port <= int(high or low):
            continue
        if "/" in target:
            network = ipaddress.ip_network(target)
            if network.version == 6 and int(network[0]) >> 32 == 0xFFFF and network.prefixlen >= 96:
                network = ipaddress.ip_network(
                    f"{ipaddress.IPv4Address(int(network[0]) & 0xFFFFFFFF)}/{network.prefixlen - 96}"
                )
            held = [one is not None and one in network for one in (address, inner)]
            if held[0] or (held[1] and action == "reject"):
                return action
            continue
        if guarded and action != "reject":
            continue
        labels = [] if host is None else host.lower().removesuffix(".").split(".")
        kind, _, name = target.partition(":")
        wild, _, below = target.partition("*.")
        if target == "all":
            return action
        if kind == "suffix" and labels[-len(name.split(".")) :] == name.split("."):
            return action
        if not wild and below and labels[1:] and any(labels[i:] == below.split(".") for i in range(1, len(labels))):
            return action
        if labels == target.split("."):
            return action
    return "reject" if guarded else "allow"


@given(
    st.lists(RULES, max_size=6),
    st.one_of(st.none(), NAMES, NAMES.map(str.upper), NAMES.map("{}.".format)),
    st.one_of(st.none(), ADDRESSES),
    st.integers(1, 12),
    st.sampled_from(["tcp", "udp"]),
)
def test_the_decision_is_that_of_the_reference(
    rules: list[str], host: str | None, address: IPAddress | None, port: int, protocol: str
) -> None:
    verdict = AccessList.parse(rules).judge(host, address, port, protocol)
    assert verdict.action == slow_judge(rules, host, address, port, protocol)
    assert verdict.reason


@given(st.lists(RULES, max_size=6), ADDRESSES, st.integers(0, 65535), st.sampled_from(["tcp", "udp"]))
def test_the_rows_for_packets_say_the_same(rules: list[str], address: IPAddress, port: int, protocol: str) -> None:
    plain = [rule for rule in rules if (rule.split("(")[1][0] in "0123456789abcdef:" and "/" in rule) or "(all" in rule]
    if address.version == 6:  # what an address leads to is no question for packets
        address = ipaddress.IPv6Address(int(address) | 0x3 << 126)
    access = AccessList.parse(plain, Guard.NONE)
    action = ACTION_NUMBERS["allow"]
    halves = (int(address) >> 64, int(address) & 2**64 - 1)
    for row in np.frombuffer(access.packet_rules(), packet_rule_type()):
        same = all(
            half & int(mask) == int(net) for half, mask, net in zip(halves, row["mask"], row["network"], strict=True)
        )
        family, number = int(row["family"]), int(row["protocol"])
        mine = family in (0, address.version) and number in (0, {"tcp": 6, "udp": 17}[protocol])
        if same and mine and row["low"] <= port <= row["high"]:
            action = int(row["action"])
            break
    assert action == ACTION_NUMBERS[access.judge(None, address, port, protocol).action]


def test_names_have_no_rows_for_packets() -> None:
    access = AccessList.parse(["reject(example.org)", "allow(::/0)", "reject(all, udp)"])
    rows = np.frombuffer(access.packet_rules(), packet_rule_type())
    assert [(int(row["family"]), int(row["protocol"]), int(row["action"])) for row in rows] == [(6, 0, 0), (0, 17, 1)]
    assert len(AccessList().packet_rules()) == 0


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    assert isinstance(rule, Rule)


@given(RULES)
def test_rules_are_read(text: str) -> None:
    assert parse_rule(text).text == text
    assert parse_rule(f"  {text.upper()} ".replace("ALL", "all")).action == parse_rule(text).action


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write it like"),
        ("reject", "write it like"),
        ("reject 10.0.0.0/8", "write it like"),
        ("deny(all)", "'deny' is no action; use allow, reject or direct"),
        ("reject()", "it has no target"),
        ("reject(10.0.0.1/8)", "bits behind its prefix; write 10.0.0.0/8"),
        ("reject(10.0.0.0/33)", "is no network and no name"),
        ("reject(127.1)", "'127.1' is no address; IPv4 is written as four numbers"),
        ("reject(2130706433)", "is no address"),
        ("reject(a b)", "neither an address, nor a network, nor a host name"),
        ("reject(suffix:)", "nor a host name"),
        ("reject(*.)", "nor a host name"),
        ("reject(a.*.org)", "is no network and no name"),
        ("reject(geoip:xx)", "geoip lists are not known here"),
        ("reject(all, icmp)", "'icmp' is no protocol/ports"),
        ("reject(all, tcp/)", "is no protocol/ports"),
        ("reject(all, tcp/9-1)", "are no ports"),
        ("reject(all, tcp/65536)", "are no ports"),
        ("reject(all, tcp/1, 10.0.0.1)", "targets are not replaced here"),
    ],
)
def test_wrong_rules(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^the rule ") as caught:
        parse_rule(text)
    assert message in str(caught.value)


def action(rules: list[str], host: str | None, address: str | None, guard: Guard = Guard.ALL) -> str:
    where = None if address is None else ip_address(address)
    return AccessList.parse(rules, guard).judge(host, where, 80, "tcp").action


@pytest.mark.parametrize(
    "host",
    ["evil.example.org", "EVIL.Example.ORG", "evil.example.org.", "Evil.Example.Org."],
)
def test_spellings_of_a_name(host: str) -> None:
    assert action(["reject(suffix:Example.org.)"], host, "192.0.2.1") == "reject"
    assert action(["reject(*.example.org)"], host, "192.0.2.1") == "reject"
    assert action(["reject(evil.example.org)"], host, "192.0.2.1") == "reject"
    assert action(["reject(suffix:ample.org)"], host, "192.0.2.1") == "allow"
    assert action(["reject(example.org)"], host, "192.0.2.1") == "allow"


def test_international_names() -> None:
    assert normalise_name("BÜCHER.example") == "xn--bcher-kva.example"
    assert action(["reject(suffix:bücher.example)"], "shop.XN--BCHER-KVA.example", "192.0.2.1") == "reject"
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in "Example") + "\u3002org"  # full-width letters and full stop
    assert normalise_name(wide) == "example.org"
    assert action(["reject(example.org)"], wide + "\u3002", None) == "reject"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "0.0.0.0",
        "::",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "100.100.0.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fd12::1",
        "fec0::1",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a01:203::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_the_neighbourhood_is_refused(address: str) -> None:
    assert action([], None, address) == "reject"
    assert action([], address, None) == "reject"
    assert action(["allow(all)", "direct(suffix:test)"], "x.test", address) == "reject", "DNS rebinding"
    assert action([], None, address, Guard.NONE) == "allow"


def test_the_world_is_allowed() -> None:
    for address in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "172.32.0.1", "100.128.0.1"):
        assert action([], None, address) == "allow"


def test_a_rule_for_the_network_permits() -> None:
    assert action(["allow(127.0.0.0/8)"], "localhost", "127.0.0.1") == "allow"
    assert action(["allow(::ffff:127.0.0.0/104)"], None, "127.0.0.1") == "allow"
    assert action(["allow(127.0.0.0/8)"], "localhost", "::1") == "reject"
    assert action(["allow(127.0.0.0/8)"], None, "64:ff9b::7f00:1") == "reject"
    assert action(["reject(10.9.0.0/16)", "allow(10.0.0.0/8)"], None, "10.9.1.1") == "reject"
    verdict = AccessList().judge("x", ip_address("10.0.0.1"), 22, "tcp")
    assert verdict.reason == (
        "10.0.0.1 is private, which is refused by default; a rule like allow(10.0.0.1, tcp/22) permits it"
    )
    assert AccessList.parse(["allow(10.0.0.1, tcp/22)"]).judge("x", ip_address("10.0.0.1"), 22, "tcp").action == "allow"


def test_at_a_client_only_itself_is_guarded() -> None:
    assert action(["direct(all)"], "printer.lan", "192.168.1.9", Guard.OWN) == "direct"
    assert action(["direct(all)"], "printer.lan", "127.0.0.1", Guard.OWN) == "reject"
    verdict = AccessList(guard=Guard.OWN).judge(None, ip_address("127.0.0.1"), 80, "tcp")
    assert "direct(127.0.0.1, tcp/80)" in verdict.reason


def test_comments_and_empty_lines() -> None:
    access = AccessList.parse(["# all of it", "", "  reject(all)  # nothing else", "\t"])
    assert [rule.text for rule in access.rules] == ["reject(all)"]
    with pytest.raises(ValueError, match="there is room for 10000"):
        AccessList.parse(["reject(all)"] * 10_001)


def read(folder: Path, text: str) -> tuple[AccessList, list[str]]:
    file = folder / "x.yaml"
    file.write_text(text)
    values, problems = read_values(file, ACL_KEYS)
    access, more = read_acl(values, folder, Guard.ALL)
    return access, [f"{problem.line}: {problem.text}" for problem in problems + more]


def test_rules_in_the_configuration(tmp_path: Path) -> None:
    access, problems = read(tmp_path, "acl:\n  inline:\n    - reject(all, tcp/25)\n    - allow(10.0.0.0/8)\n")
    assert (len(access.rules), access.guard, problems) == (2, Guard.ALL, [])
    (tmp_path / "rules").write_text("reject(all) # x\n\nallow(::1)\n")
    access, problems = read(tmp_path, "acl: {file: rules}\n")
    assert (len(access.rules), problems) == (2, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "acl:\n  inline:\n    - reject(all)\n    - deny(all)\n",
            "4: acl.inline[1]: the rule 'deny(all)': 'deny' is no",
        ),
        ("acl: {inline: [{a: b}]}\n", "1: acl.inline[0]: expected a text, found a mapping"),
        ("acl: {inline: reject(all)}\n", "1: acl.inline: expected a list of rules, found a single value"),
        ("acl: {inline: [reject(all)], file: rules}\n", "1: acl: inline and file exclude each other; keep one"),
        ("acl: {file: absent}\n", "1: acl.file: no such file"),
        ("acl: {file: wrong}\n", "wrong:2: the rule 'reject': write it like"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong").write_text("reject(all)\nreject\n")
    _, problems = read(tmp_path, text)
    assert message in "\n".join(problems)
