"""OpenCL devices by pyopencl, which is imported when one is looked for."""
