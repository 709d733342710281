"""Sans-IO codecs: the bytes of docs/protocol.md, in numba's nopython subset.

Every function takes a flat uint8 memory and an absolute position in it. Readers take the end of the readable
range too and never look behind it; what they cannot parse they answer with a negative position, not an exception.
"""
