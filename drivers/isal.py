"""Intel ISA-L: its erasure coding, by addresses (``erasure_code.h``)."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.library import Library

ISAL = Library("ISA-L", ["libisal.so.2"], "install it: apt-get install libisal2")


@dataclass(frozen=True)
class IsalFunctions:
    """Addresses of functions.

    Attributes
    ----------
    init_tables
        ``void (int k, int rows, unsigned char *matrix, unsigned char *tables)``; ``tables`` takes 32 k rows bytes.
    encode_data
        ``void (int len, int k, int rows, unsigned char *tables, unsigned char **data, unsigned char **coding)``.
    """

    init_tables: int
    encode_data: int


def isal_functions(library: Library = ISAL, isa: str = "") -> IsalFunctions:
    """Return the functions; ``isa`` ("avx2", "avx512", "sse", "base") bypasses the library's own choice.

    Raises
    ------
    UnavailableError
        When the library is not installed, or has no such variant.
    """
    if not isa:
        return IsalFunctions(library.address("ec_init_tables"), library.address("ec_encode_data"))
    # Since 2.31 the tables of GFNI are of another form; ec_init_tables_base makes the ones of every other variant.
    plain = hasattr(library.load(), "ec_init_tables_base")
    init = library.address("ec_init_tables_base" if plain else "ec_init_tables")
    return IsalFunctions(init, library.address(f"ec_encode_data_{isa}"))
