"""Engines: FEC and AEAD over batches of packets, and the registry that chooses among them. Imports ``drivers`` only."""

__vantun__ = "0.1.0"
"""Release that this package belongs to; ``import vantun`` compares it, as others are called ``accel``, too."""
