"""Builds baselines.c and gives its functions the jobs of our engines: the opponents, driven as a C program drives them.

Every opponent works on the memory of our job and must come to the same bytes; ``run`` is one call by ctypes, as our
engines' is.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel.bench.work import make_key
from accel.calls import Caller, address_of, aligned, make_records, write_call
from accel.engine import OpenJob, Operation, SealJob, SpanJob, Suite
from accel.gf256 import MATRIX
from benchmarks.report import scratch
from drivers.cpu import read_cpu
from drivers.errors import Unavailable
from drivers.ipsec_mb import ALIGNMENT, CONTEXT_BYTES, IPSEC_MB, KEY_BYTES, choose_isa, gcm_functions
from drivers.isal import IsalFunctions, isal_functions
from drivers.libcrypto import Libcrypto
from drivers.library import Library

_SOURCE = Path(__file__).with_name("baselines.c")
_MOST_PACKETS = 1024
"""BATCH of baselines.c."""
_ROUND_KEYS = 256
"""Bytes; 15 round keys of AES-256 and some room."""
_EVP = {
    Suite.AES_128_GCM: ("AES-128-GCM", "AES-128-ECB"),
    Suite.AES_256_GCM: ("AES-256-GCM", "AES-256-ECB"),
    Suite.CHACHA20_POLY1305: ("ChaCha20-Poly1305", "ChaCha20"),
}
Run = Callable[[], int]


@cache
def _library() -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("no C compiler for the baselines", "install it: apt-get install gcc").error()
    target = scratch() / "baselines.so"
    command = [compiler, "-O3", "-shared", "-fPIC", "-o", str(target), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        what = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise Unavailable(f"baselines.c cannot be compiled here: {what}", "it is written for x86-64").error()
    return ctypes.CDLL(str(target))


def _bind(name: str, words: list[int], *held: object) -> Run:
    """Return a call of a function of baselines.c with a struct of so many words; ``held`` lives as long."""
    function = _library()[name]
    function.restype, function.argtypes = ctypes.c_int64, [ctypes.c_void_p]
    struct = np.array(words, np.int64)
    address = ctypes.c_void_p(address_of(struct))

    def run(_held: tuple[object, ...] = (struct, *held)) -> int:
        return int(function(address))

    return run


def _table(base: int, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pointers."""
    return np.ascontiguousarray(base + offsets)


def isal(job: SpanJob, operation: Operation, library: Library, isa: str = "") -> Run:
    """Return ISA-L's way to do a job whose spans are of one shape: row 0 up, column 0 up.

    Encode has the tables ready. Decode inverts a matrix for every block, as the patterns differ.

    Raises
    ------
    UnavailableError
        When the library cannot be loaded, or lacks a function.
    """
    functions: IsalFunctions = isal_functions(library, isa)
    count, k, m, length = len(job.k), int(job.k[0]), int(job.m[0]), int(job.length[0])
    matrix = np.ascontiguousarray(np.concatenate((np.eye(k, dtype=np.uint8), MATRIX[:m, :k])))
    tables, base = aligned(32 * k * m), address_of(job.memory)
    units, parity = job.data.reshape(count, k), job.parity.reshape(count, m)
    source, target, name = units, parity, "isal_encode"
    lost = np.ascontiguousarray(job.lost)
    if operation is Operation.FEC_DECODE:
        where = lost.reshape(count, m).astype(np.int64)
        source, target, name = units.copy(), np.take_along_axis(units, where, 1), "isal_decode"
        np.put_along_axis(source, where, parity, 1)
    else:
        records = make_records(1)
        write_call(records, functions.init_tables, k, m, address_of(matrix) + k * k, address_of(tables))
        Caller().run(records)
    sources, targets = _table(base, source), _table(base, target)
    words = [count, k, m, length, functions.init_tables, functions.encode_data, library.address("gf_invert_matrix")]
    words += [address_of(each) for each in (matrix, tables, sources, targets, lost)]
    return _bind(name, words, job, matrix, tables, sources, targets, lost)


def ipsec_mb(job: SealJob | OpenJob, suite: Suite, isa: str = "") -> Run:
    """Return IPsec-MB's way to do a job of equal packets of slot 0: one direct GCM call per packet.

    These are the functions that its direct interface (IMB_AES128_GCM_ENC and others) points to; version 1.3 has no
    calls for QUIC, and jobs would add a queue in front of them. It makes the round keys of header protection, too; the
    blocks are encrypted by AES-NI instructions in baselines.c.
    """
    isa = isa or choose_isa(read_cpu().flags)
    bits = 8 * suite.key_length
    functions = gcm_functions(bits, isa)
    spec = make_key(suite)
    data, context = aligned(KEY_BYTES, ALIGNMENT), aligned(CONTEXT_BYTES, ALIGNMENT)
    round_keys = aligned(_ROUND_KEYS)
    key, header_key = (np.frombuffer(bytearray(text), np.uint8) for text in (spec.key, spec.header_key))
    records = make_records(2)
    write_call(records[:1], functions.prepare, address_of(key), address_of(data))
    expand = IPSEC_MB.address(f"aes_keyexp_{bits}_enc_sse")
    write_call(records[1:], expand, address_of(header_key), address_of(round_keys))
    Caller().run(records)
    sealing = isinstance(job, SealJob)
    words, held = _packet_words(job, spec.iv)
    words += [address_of(data), address_of(context), functions.encrypt if sealing else functions.decrypt]
    words += [address_of(round_keys), bits // 32 + 6, 0, 0, 0, 0, 0, 0]
    return _bind("ipsec_seal" if sealing else "ipsec_open", words, job, held, data, context, round_keys)


def openssl(job: SealJob | OpenJob, suite: Suite, library: Libcrypto) -> Run:
    """Return the way of OpenSSL's EVP interface to do a job of equal packets of slot 0."""
    sealing, spec = isinstance(job, SealJob), make_key(suite)
    aead, header = _EVP[suite]
    contexts = [
        library.make_context(aead, spec.key, encrypt=sealing),
        library.make_context(header, spec.header_key, encrypt=True),
    ]
    calls = [library.encrypt_init, library.encrypt_update, library.encrypt_final]
    if not sealing:
        calls = [library.decrypt_init, library.decrypt_update, library.decrypt_final]
    words, held = _packet_words(job, spec.iv)
    stream = library.encrypt_init if suite is Suite.CHACHA20_POLY1305 else 0
    words += [*contexts, 0, 0, 0, *calls, library.control, stream, library.encrypt_update]
    return _bind("evp_seal" if sealing else "evp_open", words, job, held, library)


def _packet_words(job: SealJob | OpenJob, iv: bytes) -> tuple[list[int], list[object]]:
    """Return the first words of ``struct packets``, and what they point to."""
    if len(job.length) > _MOST_PACKETS or (job.length != job.length[0]).any() or job.slot.any():
        raise ValueError(f"the baselines take up to {_MOST_PACKETS} packets of one length and of slot 0")
    sources = _table(address_of(job.source), job.source_offset)
    targets = _table(address_of(job.target), job.target_offset)
    numbers, kept = job.number.copy(), np.frombuffer(bytearray(iv), np.uint8)
    words = [len(job.length), int(job.length[0]), *(address_of(each) for each in (sources, targets, numbers, kept))]
    return words, [sources, targets, numbers, kept]
