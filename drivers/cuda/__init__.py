"""NVIDIA GPUs by cupy, which is imported when one is looked for."""
