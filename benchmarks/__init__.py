"""Programs that measure; their results are in ``benchmarks/results``."""
