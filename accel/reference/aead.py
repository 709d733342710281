"""Packet protection by its definition (RFC 9001, sections 5.3 and 5.4), for the rows of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from accel.engine import (
    HEADER_LENGTH,
    SHORTEST_OPEN,
    SHORTEST_SEAL,
    TAG_LENGTH,
    KeySpec,
    OpenJob,
    SealJob,
    Status,
    Suite,
)
from accel.reference import chacha20_poly1305, gcm
from accel.reference.aes import encrypt_block, expand_key

_PN_OFFSET = 9
"""Byte of the header where the packet number begins."""
_SAMPLE = slice(HEADER_LENGTH, HEADER_LENGTH + 16)
"""The sampled bytes begin four bytes behind the start of the packet number (section 5.4.2)."""
_KEY_PHASE = 0x04


def header_protection_mask(suite: Suite, hp_key: bytes, sample: bytes) -> bytes:
    """Return the five bytes of the mask (sections 5.4.3 and 5.4.4)."""
    if suite is Suite.CHACHA20_POLY1305:
        counter, nonce = int.from_bytes(sample[:4], "little"), sample[4:16]
        return chacha20_poly1305.chacha20_encrypt(hp_key, counter, nonce, bytes(5))
    return encrypt_block(expand_key(hp_key), sample)[:5]


def apply_mask(header: bytes, mask: bytes) -> bytes:
    """Return a short header with its protection added or removed (section 5.4.1)."""
    number = bytes(a ^ b for a, b in zip(header[_PN_OFFSET:], mask[1:], strict=True))
    return bytes([header[0] ^ (mask[0] & 0x1F)]) + header[1:_PN_OFFSET] + number


def decode_packet_number(largest_pn: int, truncated_pn: int, pn_nbits: int = 32) -> int:
    """Return the full packet number (RFC 9000, appendix A.3)."""
    expected_pn = largest_pn + 1
    pn_win = 1 << pn_nbits
    pn_hwin = pn_win // 2
    pn_mask = pn_win - 1
    candidate_pn = (expected_pn & ~pn_mask) | truncated_pn
    if candidate_pn <= expected_pn - pn_hwin and candidate_pn < (1 << 62) - pn_win:
        return candidate_pn + pn_win
    if candidate_pn > expected_pn + pn_hwin and candidate_pn >= pn_win:
        return candidate_pn - pn_win
    return candidate_pn


def nonce_of(iv: bytes, number: int) -> bytes:
    """Return the IV xor the packet number, padded on the left (section 5.3)."""
    return (int.from_bytes(iv) ^ number).to_bytes(len(iv))


def aead_encrypt(suite: Suite) -> Callable[[bytes, bytes, bytes, bytes], bytes]:
    """Return the function (key, nonce, aad, plaintext) -> ciphertext and tag."""
    return chacha20_poly1305.seal if suite is Suite.CHACHA20_POLY1305 else gcm.seal


def aead_decrypt(suite: Suite) -> Callable[[bytes, bytes, bytes, bytes], bytes | None]:
    """Return the function (key, nonce, aad, ciphertext and tag) -> plaintext or None."""
    return chacha20_poly1305.open_ if suite is Suite.CHACHA20_POLY1305 else gcm.open_


def seal_packet(first: KeySpec, phase: KeySpec, number: int, packet: bytes) -> bytes:
    """Return header and plaintext protected; ``first`` has the header-protection key, ``phase`` the others."""
    header, plaintext = packet[:HEADER_LENGTH], packet[HEADER_LENGTH:]
    sealed = header + aead_encrypt(phase.suite)(phase.key, nonce_of(phase.iv, number), header, plaintext)
    mask = header_protection_mask(first.suite, first.header_key, sealed[_SAMPLE])
    return apply_mask(header, mask) + sealed[HEADER_LENGTH:]


def open_packet(keys: Mapping[int, KeySpec], slot: int, largest: int, packet: bytes) -> tuple[int, bytes] | None:
    """Return (full packet number, header and plaintext), or None for a packet that is to be rejected."""
    if len(packet) < SHORTEST_OPEN or slot not in keys:
        return None
    mask = header_protection_mask(keys[slot].suite, keys[slot].header_key, packet[_SAMPLE])
    header = apply_mask(packet[:HEADER_LENGTH], mask)
    number = decode_packet_number(largest, int.from_bytes(header[_PN_OFFSET:]))
    phase = keys.get(slot + bool(header[0] & _KEY_PHASE))
    if phase is None:
        return None
    plaintext = aead_decrypt(phase.suite)(phase.key, nonce_of(phase.iv, number), header, packet[HEADER_LENGTH:])
    return None if plaintext is None else (number, header + plaintext)


def seal(keys: Mapping[int, KeySpec], job: SealJob) -> None:
    """Do a seal job."""
    for i, slot in enumerate(job.slot.tolist()):
        start, end = int(job.source_offset[i]), int(job.target_offset[i])
        packet = job.source[start : start + job.length[i]].tobytes()
        phase = slot + bool(packet and packet[0] & _KEY_PHASE)
        if len(packet) < SHORTEST_SEAL or slot not in keys or phase not in keys:
            job.target[end : end + len(packet) + TAG_LENGTH] = 0
            job.status[i] = Status.REJECTED
            continue
        sealed = seal_packet(keys[slot], keys[phase], int(job.number[i]), packet)
        job.target[end : end + len(sealed)] = np.frombuffer(sealed, np.uint8)
        job.status[i] = Status.DONE


def open_(keys: Mapping[int, KeySpec], job: OpenJob) -> None:
    """Do an open job."""
    for i, slot in enumerate(job.slot.tolist()):
        start, end = int(job.source_offset[i]), int(job.target_offset[i])
        packet = job.source[start : start + job.length[i]].tobytes()
        opened = open_packet(keys, slot, int(job.number[i]), packet)
        if opened is None:
            job.target[end : end + max(0, len(packet) - TAG_LENGTH)] = 0
            job.status[i] = Status.REJECTED
        else:
            job.number[i] = opened[0]
            job.target[end : end + len(opened[1])] = np.frombuffer(opened[1], np.uint8)
            job.status[i] = Status.DONE
