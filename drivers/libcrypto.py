"""OpenSSL's libcrypto, version 3: the EVP calls of packet protection, as addresses.

An ``EVP_CIPHER_CTX`` is opaque and is made, used and freed by the library alone.
"""

from __future__ import annotations

import ctypes
from typing import Any

from drivers.errors import DriverError
from drivers.library import Library

LIBCRYPTO = Library("OpenSSL", ["libcrypto.so.3"], "install it: apt-get install libssl3")

GET_TAG, SET_TAG = 0x10, 0x11
"""Commands of EVP_CIPHER_CTX_ctrl (EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG)."""


class Libcrypto:
    """Addresses of the calls that are made per packet, and contexts of ciphers.

    Raises
    ------
    UnavailableError
        When the library is not installed, or is another version.
    """

    def __init__(self, library: Library = LIBCRYPTO) -> None:
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self.encrypt_init = library.address("EVP_EncryptInit_ex")
        self.encrypt_update = library.address("EVP_EncryptUpdate")
        self.encrypt_final = library.address("EVP_EncryptFinal_ex")
        self.decrypt_init = library.address("EVP_DecryptInit_ex")
        self.decrypt_update = library.address("EVP_DecryptUpdate")
        self.decrypt_final = library.address("EVP_DecryptFinal_ex")
        self.control = library.address("EVP_CIPHER_CTX_ctrl")
        self.clear_errors = library.function("ERR_clear_error", None)
        self._fetch = library.function("EVP_CIPHER_fetch", pointer, pointer, ctypes.c_char_p, ctypes.c_char_p)
        self._new = library.function("EVP_CIPHER_CTX_new", pointer)
        self._init = library.function("EVP_CipherInit_ex", integer, *(pointer,) * 5, integer)
        self._free = library.function("EVP_CIPHER_CTX_free", None, pointer)
        self._ciphers: dict[str, Any] = {}

    def make_context(self, cipher: str, key: bytes, *, encrypt: bool) -> int:
        """Return the address of a new context that holds ``key``; :meth:`free_context` wipes it."""
        if cipher not in self._ciphers:
            self._ciphers[cipher] = self._fetch(None, cipher.encode(), None)
        fetched, context = self._ciphers[cipher], self._new()
        if not fetched or not context or self._init(context, fetched, None, key, None, int(encrypt)) != 1:
            self._free(context)
            self.clear_errors()
            raise DriverError(f"OpenSSL has no cipher {cipher}; its provider may be off, see openssl.cnf")
        return int(context)

    def free_context(self, context: int) -> None:
        """Wipe and free a context."""
        self._free(context)
