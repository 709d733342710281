"""AEAD engines, one file each."""
