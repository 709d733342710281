"""Nopython kernels: plain arrays in, ``out`` written, nothing allocated per row, no Python objects."""
