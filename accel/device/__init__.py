"""Engines on devices that have memory of their own: one source of kernels in C, one way to lay batches out for them.

The kernels (``*.h``) are one text for CUDA, OpenCL and, in tests, C++; see dialect.h. What differs between devices is
below :class:`accel.device.port.Device`.
"""
