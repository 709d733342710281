"""A worker compiles nothing while it serves UDP: what it calls was called before, with the same types."""

from __future__ import annotations

from typing import Any

from tests.unit.vantun.dataplane.test_udp_judge import Judged
from tests.unit.vantun.dataplane.udp_lab import UdpLab, udp, unwrap, wrap
from vantun.dataplane import udp_divert, udp_kernels, udp_table
from vantun.dataplane.udp_warm import warm_udp
from vantun.udp_messages import UdpAction, UdpKind

KERNELS: tuple[Any, ...] = (
    udp_kernels.put_bodies,
    udp_kernels.take_bodies,
    udp_kernels.read_relay,
    udp_kernels.name_answers,
    udp_kernels.sort_sources,
    udp_kernels.strip_addresses,
    udp_kernels.aim_bodies,
    udp_table.find_row,
    udp_divert.divert_bodies,
    udp_divert.lay_bodies,
)


def test_serving_adds_no_signature() -> None:
    lab = UdpLab()
    warm_udp(lab.client.plane.context)
    before = [list(kernel.signatures) for kernel in KERNELS]
    with udp() as program, udp() as target:
        where = target.getsockname()
        _, relay = lab.relay(program)
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{where[1]}")
        program.sendto(wrap(where, b"relay"), relay)
        program.sendto(b"forward", forward)
        for data, source in lab.until(target, 2):
            target.sendto(data, source)
        answers = [data for data, _ in lab.until(program, 2)]
    assert sorted(answers, key=len) == [b"forward", wrap(where, b"relay")]
    assert unwrap(answers[0] if len(answers[0]) > 8 else answers[1])[0] == b"relay"
    assert [list(kernel.signatures) for kernel in KERNELS] == before
    lab.close()


def test_sending_past_the_tunnel_adds_no_signature() -> None:
    lab = Judged()
    lab.verdicts = {"127.0.0.1": UdpAction.DIRECT}
    warm_udp(lab.client.plane.context)
    before = [list(kernel.signatures) for kernel in KERNELS]
    with udp() as program, udp() as target:
        where = target.getsockname()
        _, relay = lab.relay(program)
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{where[1]}")
        program.sendto(wrap(where, b"relay"), relay)
        program.sendto(b"forward", forward)
        for data, source in lab.until(target, 2):
            target.sendto(data, source)
        assert len(lab.until(program, 2)) == 2
    assert [list(kernel.signatures) for kernel in KERNELS] == before
    lab.close()
