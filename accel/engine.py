"""The contract of an engine: what the pipeline asks, and what any device must answer.

One shape for all: ``open -> session``, ``submit(job) -> ticket | None`` (None = full), ``poll``, ``cancel``,
``health``. A synchronous engine works inside ``submit`` and returns a finished ticket. Every job is out of place, so
that a fault is repaired by doing the same job again in software from the untouched source, under the same number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Operation(Enum):
    """What an engine can be asked to do."""

    FEC_ENCODE = "fec.encode"
    FEC_DECODE = "fec.decode"
    AEAD_SEAL = "aead.seal"
    AEAD_OPEN = "aead.open"


class Provenance(Enum):
    """Where an engine's work is done; emulators and fakes are never selected by themselves."""

    SILICON = "silicon"
    CPU = "cpu"
    EMULATOR = "emulator"
    FAKE = "fake"


class Maturity(Enum):
    """How far an engine has been proven."""

    PRODUCTION = "production"
    TESTED_ON_HARDWARE = "tested on hardware"
    PROTOCOL_TESTED = "protocol-tested"
    UNTESTED = "untested"


class Status(IntEnum):
    """Verdict on one row of a job (int8)."""

    DONE = 1
    PENDING = 0
    REJECTED = -1
    """Bad tag, or a span that cannot be decoded: the input's fault."""
    FAULT = -2
    """The engine's fault: redo in software."""
    CANCELLED = -3


class Suite(Enum):
    """AEAD of a lane, by TLS 1.3 name; header protection follows RFC 9001, sections 5.4.3 and 5.4.4."""

    AES_128_GCM = "aes-128-gcm"
    AES_256_GCM = "aes-256-gcm"
    CHACHA20_POLY1305 = "chacha20-poly1305"

    @property
    def key_length(self) -> int:
        """Bytes of the AEAD key, and of the header-protection key."""
        return 16 if self is Suite.AES_128_GCM else 32


@dataclass(frozen=True)
class KeySpec:
    """Packet-protection keys of one direction of a lane, one key phase (RFC 9001, section 5.1)."""

    suite: Suite
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    header_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        lengths = (len(self.key), len(self.iv), len(self.header_key))
        wanted = (self.suite.key_length, NONCE_LENGTH, self.suite.key_length)
        if lengths != wanted:
            raise ValueError(
                f"{self.suite.value} has keys of {wanted} bytes (key, iv, header key), given are {lengths}"
            )


NONCE_LENGTH = 12
"""Bytes of the AEAD nonce, and of the IV."""
HEADER_LENGTH = 13
"""Bytes of a data packet before its payload: first byte, connection id (8), packet number (4). Always the AAD."""
TAG_LENGTH = 16
"""Bytes of the AEAD tag."""
SHORTEST_SEAL = HEADER_LENGTH + 4
"""Bytes of the shortest row that can be sealed. RFC 9001 5.4.2 needs fewer, but a device may not like empty texts."""
SHORTEST_OPEN = SHORTEST_SEAL + TAG_LENGTH
"""Bytes of the shortest row that can be opened."""


class SealJob(NamedTuple):
    """Protect rows: header | plaintext -> protected header | ciphertext | tag.

    Rows never overlap, and no target overlaps a source. The key of a row is ``slot[i] + phase``, where phase is bit
    0x04 of its first header byte; the nonce is the key's IV xor ``number[i]``; the AAD is the 13-byte header as given
    in the source, which already holds the low 32 bits of ``number[i]``. The header-protection key is that of
    ``slot[i]`` in both phases (RFC 9001, section 6.1). A row that is too short, or has no key in ``slot[i]`` or
    ``slot[i] + phase``, is REJECTED and its target zeroed.

    Attributes
    ----------
    source, source_offset, length
        [uint8 (bytes,)], [int64 (n,)], [int32 (n,)]: header and plaintext together; ``length`` >= SHORTEST_SEAL.
    target, target_offset
        [uint8 (bytes,)], [int64 (n,)]: receives ``length[i] + TAG_LENGTH`` bytes.
    slot
        [int32 (n,)] key slot for key phase 0 of the row's lane; phase 1 is the next slot.
    number
        [int64 (n,)] the full packet number.
    status
        [int8 (n,)] receives a :class:`Status`.
    """

    source: NDArray[np.uint8]
    source_offset: NDArray[np.int64]
    length: NDArray[np.int32]
    target: NDArray[np.uint8]
    target_offset: NDArray[np.int64]
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]


class OpenJob(NamedTuple):
    """Unprotect rows: protected header | ciphertext | tag -> header | plaintext.

    The engine removes header protection, expands the packet number (RFC 9000, appendix A.3) around ``number[i]``, and
    opens with slot ``slot[i] + phase``. Fields as in :class:`SealJob`, except: ``length`` is the whole packet; the
    target receives the plain header and the plaintext (``length[i] - TAG_LENGTH`` bytes); ``number`` holds the largest
    packet number received so far (-1 = none) on entry and, for a row that is DONE, the full packet number on return.

    A row that is shorter than SHORTEST_OPEN, has no key as above, or a wrong tag is REJECTED: its target is zeroed, its
    number kept.
    """

    source: NDArray[np.uint8]
    source_offset: NDArray[np.int64]
    length: NDArray[np.int32]
    target: NDArray[np.uint8]
    target_offset: NDArray[np.int64]
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]


class SpanJob(NamedTuple):
    """Spans of code 1, for encode and decode alike; units are byte ranges of one ``memory``.

    Span ``i`` has ``k[i]`` data units at ``data[data_start[i] : data_start[i] + k[i]]`` and ``m[i]`` parity units at
    ``parity[parity_start[i] : parity_start[i] + m[i]]``, all ``length[i]`` bytes long (shorter units are zero-padded to
    it by the caller). Data unit ``j`` has column ``(column[i] + j) & 127``; parity unit ``p`` has row
    ``row[parity_start[i] + p]`` of the matrix.

    Encode writes the parity units. Decode has exactly as many parity units as lost data units:
    ``lost[parity_start[i] + p]`` names, as a position ``0 <= j < k[i]``, a data unit to be rebuilt, and decode writes
    that unit's bytes. A span outside of the matrix (k not 1 to 128, a row above 126) is REJECTED, and so is a decode
    with a position outside of the span, or with a position or a row given twice; nothing of a REJECTED span is written.

    Attributes
    ----------
    memory
        [uint8 (bytes,)]
    data, parity
        [int64 (sum of k,)], [int64 (sum of m,)] byte offsets of units in ``memory``; may be longer.
    row, lost
        [uint8 (sum of m,)] matrix rows; lost positions (ignored by encode); may be longer.
    data_start, parity_start
        [int32 (spans,)]
    k, m, column, length
        [int32 (spans,)]
    status
        [int8 (spans,)] receives a :class:`Status`.
    """

    memory: NDArray[np.uint8]
    data: NDArray[np.int64]
    parity: NDArray[np.int64]
    row: NDArray[np.uint8]
    lost: NDArray[np.uint8]
    data_start: NDArray[np.int32]
    parity_start: NDArray[np.int32]
    k: NDArray[np.int32]
    m: NDArray[np.int32]
    column: NDArray[np.int32]
    length: NDArray[np.int32]
    status: NDArray[np.int8]


Job = SealJob | OpenJob | SpanJob


class Ticket(Protocol):
    """One accepted job. The rows belong to the engine until ``done``."""

    @property
    def done(self) -> bool:
        """Whether every row of the job has its final status."""


class EngineSession(Protocol):
    """An opened engine for one operation."""

    operation: Operation

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Make ``slot`` usable by jobs submitted from now on (AEAD operations only)."""

    def remove_key(self, slot: int) -> None:
        """Forget and wipe the key in ``slot``; unknown slots are ignored."""

    def close(self) -> None:
        """Release the device and wipe every key."""


@dataclass(frozen=True)
class Health:
    """Cheap answer to "are you well?": no device I/O."""

    usable: bool
    reason: str = ""


class Engine(Protocol):
    """One way to compute, on one device."""

    name: str
    operations: frozenset[Operation]
    provenance: Provenance
    maturity: Maturity

    def open(self, operation: Operation) -> EngineSession:
        """Open a session; raises :class:`drivers.errors.DriverError` with the next step."""

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        """Start a job; None when the engine is full (back-pressure, not an error)."""

    def poll(self) -> int:
        """Complete what is ready without blocking; return the number of tickets finished by this call."""

    def cancel(self, ticket: Ticket) -> bool:
        """Return True only if the device provably no longer owns the ticket's rows."""

    def health(self) -> Health:
        """Return the engine's state without touching the device."""
