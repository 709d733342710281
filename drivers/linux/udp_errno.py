"""What an errno of ``sendmmsg`` and ``recvmmsg`` means: one predicate per decision, each with its causes."""

from __future__ import annotations

import errno

from drivers.linux.libc import MessageCalls

_ICMP = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENOPROTOOPT, errno.EPROTO}
)
_MISUSE = frozenset(
    {errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EDESTADDRREQ, errno.EISCONN, errno.ENOTCONN, errno.EPIPE}
)


def name_of(number: int) -> str:
    """Return the symbolic name of an errno."""
    return errno.errorcode.get(number, str(number))


def would_block(number: int) -> bool:
    """Whether the socket buffer is full, or empty: the end of a batch, not an error."""
    return number in (errno.EAGAIN, errno.EWOULDBLOCK)


def no_buffer(number: int) -> bool:
    """Whether a queue below the socket is full.

    ENOBUFS comes from a device queue (qdisc) that drops, ENOMEM from the allocator. epoll does not see either: the
    socket stays writable, so the caller tries again at its next timer.
    """
    return number in (errno.ENOBUFS, errno.ENOMEM)


def from_icmp(number: int) -> bool:
    """Whether the error may belong to an *earlier* packet.

    A connected socket (or one with IP_RECVERR) reports an ICMP answer at its next call, once; that call has moved
    nothing, and repeating it works. EHOSTUNREACH and its like can also be the routing table's own answer, and then come
    again.
    """
    return number in _ICMP


def gso_refused(number: int) -> bool:
    """Whether a message with UDP_SEGMENT was refused for having it.

    EIO: the device has no transmit checksum offload, or IPsec transforms the route (udp_send_skb, net/ipv4/udp.c).
    EINVAL: the segment exceeds the path MTU (kernels before 6.13), or a kernel allows fewer segments than 64.
    EMSGSIZE: the same, kernels from 6.13, and any message over 65,507 bytes.
    EOPNOTSUPP, ENOPROTOOPT: a kernel, or a sandbox in its place, without UDP_SEGMENT (before 4.18).
    """
    return number in (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT)


def marks_refused(number: int) -> bool:
    """Whether a message may have been refused for its ECN bits (IP_TOS, IPV6_TCLASS beside it).

    EINVAL: a kernel before 3.13 (IP_TOS per message), or a sandbox's own network stack. EOPNOTSUPP, ENOPROTOOPT: such a
    stack. EPERM is never the bits': only other parts of the octet need a privilege.
    """
    return number in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT)


def misuse(number: int) -> bool:
    """Whether the socket or the batch is at fault, not the network: no packet will ever pass."""
    return number in _MISUSE


def call_missing(number: int, calls: MessageCalls, descriptor: int) -> bool:
    """Whether the batched call itself is refused.

    ENOSYS: a kernel or sandbox without it. EPERM: a seccomp filter, or else a firewall that drops this packet; sending
    no message at all tells them apart, since a filter refuses even that.
    """
    return number == errno.ENOSYS or (number == errno.EPERM and calls.sendmmsg(descriptor, 0, 0, 0) == -errno.EPERM)
