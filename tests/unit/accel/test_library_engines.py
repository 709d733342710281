"""The engines that need a library: what they say without it, what they choose, and that no key stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel.aead.ipsec_mb import IpsecMbAead
from accel.aead.openssl import OpensslAead, _Session
from accel.engine import Engine, KeySpec, Operation, Status, Suite
from accel.fec import isal
from accel.fec.isal import IsalFec, decode_matrices
from accel.gf256 import MATRIX, multiply
from accel.reference.engine import ReferenceEngine
from accel.selftest import self_test
from accel.sight import find_library
from accel.trials import SealRow, SpanRow, copy_job, difference, packet, seal_job, span_job
from drivers.errors import DriverError, UnavailableError
from drivers.ipsec_mb import ISAS, choose_isa
from drivers.libcrypto import Libcrypto
from drivers.library import Library
from tests.engines.engine_list import finish, refer
from tests.unit.accel.test_catalogue import ROWS

ABSENT = Library("the library", ["libvantun-no-such.so.1"], "install it: apt-get install it")
ABSENT_ENGINES = [IsalFec(ABSENT), OpensslAead(ABSENT), IpsecMbAead("sse", ABSENT)]
each_absent = pytest.mark.parametrize("engine", ABSENT_ENGINES, ids=lambda engine: engine.name)


def needs(name: str) -> pytest.MarkDecorator:
    found = ROWS[name].look(Path("/"))
    return pytest.mark.skipif(not found.present, reason=f"{name}: it needs {ROWS[name].needs}")


@each_absent
def test_without_its_library_an_engine_says_what_to_install(engine: Engine) -> None:
    for operation in engine.operations:
        with pytest.raises(UnavailableError, match=r"the library cannot be loaded .* apt-get install it"):
            engine.open(operation)
        verdict = self_test(engine, operation)
        assert not verdict.passed
        assert "apt-get install it" in verdict.reason


@each_absent
def test_an_operation_that_it_does_not_have(engine: Engine) -> None:
    other = Operation.AEAD_OPEN if engine.name == "isal" else Operation.FEC_ENCODE
    with pytest.raises(ValueError, match=f"engine {engine.name} cannot do {other.value}"):
        engine.open(other)


@pytest.mark.skipif(find_library(["libz.so.1"], Path("/")) is None, reason="zlib")
def test_another_version_is_told() -> None:
    zlib = Library("the library", ["libz.so.1"], "install it")
    for engine, operation in (
        (IsalFec(zlib), Operation.FEC_ENCODE),
        (OpensslAead(zlib), Operation.AEAD_SEAL),
        (IpsecMbAead("sse", zlib), Operation.AEAD_SEAL),
    ):
        with pytest.raises(UnavailableError, match="another version than expected"):
            engine.open(operation)


@pytest.mark.parametrize("isa", ISAS)
def test_the_variant_follows_the_flags(isa: str) -> None:
    assert choose_isa(ISAS[isa] | {"fpu"}) == isa


@pytest.mark.parametrize("flags", [(), ("avx2", "bmi2"), ("aes", "sse4_2")])
def test_a_cpu_without_aes_has_no_variant(flags: tuple[str, ...]) -> None:
    with pytest.raises(UnavailableError, match="this CPU lacks"):
        choose_isa(flags)


def key(suite: Suite, seed: int) -> KeySpec:
    return KeySpec(suite, bytes([seed]) * suite.key_length, bytes(12), bytes([seed]) * suite.key_length)


@needs("ipsec-mb")
def test_ipsec_mb_wipes_what_it_expanded() -> None:
    engine = IpsecMbAead()
    session = engine.open(Operation.AEAD_SEAL)
    session.install_key(0, key(Suite.AES_256_GCM, 1))
    session.install_key(1, key(Suite.AES_128_GCM, 2))
    first, second = session.keys[0], session.keys[1]  # type: ignore[attr-defined]
    assert first.any()
    session.remove_key(0)
    assert not first.any()
    session.install_key(1, key(Suite.AES_128_GCM, 3))
    assert not second.any()
    third = session.keys[1]  # type: ignore[attr-defined]
    session.close()
    assert not third.any()


@needs("ipsec-mb")
def test_ipsec_mb_wipes_when_nobody_closes() -> None:
    session = IpsecMbAead().open(Operation.AEAD_OPEN)
    session.install_key(0, key(Suite.AES_128_GCM, 1))
    data = session.keys[0]  # type: ignore[attr-defined]
    del session
    assert not data.any()


@needs("ipsec-mb")
def test_rows_of_both_kinds_in_one_lane() -> None:
    """The phases of a lane may even differ in suite; each row is done by whoever can."""
    rows = [SealRow(slot, 5, packet(5, phase, b"text")) for slot in (0, 2) for phase in (0, 1)]
    engine = IpsecMbAead()
    session = engine.open(Operation.AEAD_SEAL)
    session.install_key(0, key(Suite.AES_128_GCM, 1))
    session.install_key(1, key(Suite.CHACHA20_POLY1305, 2))
    job = seal_job([*rows, SealRow(9, 5, packet(5, 0, b"text"))])
    engine.submit(session, job)
    assert job.status.tolist() == [Status.DONE] * 2 + [Status.REJECTED] * 3
    expected = copy_job(job)
    reference = ReferenceEngine()
    theirs = reference.open(Operation.AEAD_SEAL)
    theirs.install_key(0, key(Suite.AES_128_GCM, 1))
    theirs.install_key(1, key(Suite.CHACHA20_POLY1305, 2))
    reference.submit(theirs, expected)
    assert not difference(job, expected)


@needs("openssl")
def test_openssl_refuses_a_cipher_that_is_off() -> None:
    with pytest.raises(DriverError, match="OpenSSL has no cipher AES-7-GCM"):
        Libcrypto().make_context("AES-7-GCM", bytes(16), encrypt=True)


@needs("openssl")
def test_openssl_frees_contexts_with_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Libcrypto()
    freed: list[int] = []
    free = library.free_context

    def record(context: int) -> None:
        freed.append(context)
        free(context)

    monkeypatch.setattr(library, "free_context", record)
    session = _Session(Operation.AEAD_SEAL, library)
    for seed in (1, 2):
        session.install_key(0, key(Suite.AES_128_GCM, seed))
    assert len(freed) == 2
    session.close()
    assert len(freed) == 4
    session.close()
    assert len(freed) == 4


def test_the_closed_form_inverts_the_code() -> None:
    """What the matrix makes of present units and parities is the lost units, for unit vectors."""
    generator = np.random.default_rng(3)
    for k, m, first in ((1, 1, 0), (5, 5, 126), (128, 9, 40), (12, 3, 7)):
        column = ((first + np.arange(k)) & 127)[None, :]
        row, lost = generator.permutation(127)[None, :m], generator.permutation(k)[None, :m]
        matrix = decode_matrices(column, row, lost)[0]
        for unit in range(k):
            sources = np.zeros(k, np.uint8)
            sources[unit] = 1
            sources[lost[0]] = MATRIX[row[0], column[0, unit]]
            rebuilt = [
                int(np.bitwise_xor.reduce([multiply(int(a), int(b)) for a, b in zip(line, sources, strict=True)]))
                for line in matrix
            ]
            assert rebuilt == [int(position == unit) for position in lost[0]]


@needs("isal")
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_isal_in_pieces_and_of_many_shapes(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isal, "_PIECE", piece)
    units = [tuple(bytes([j * 7 + i & 255 for i in range(size)]) for j in range(k)) for k, size in ((3, 70), (9, 33))]
    job = span_job([SpanRow(units[i % 2], i, tuple(range(i % 4))) for i in range(12)])
    done = finish(IsalFec(), Operation.FEC_ENCODE, job)
    assert not difference(done, refer(Operation.FEC_ENCODE, job))
