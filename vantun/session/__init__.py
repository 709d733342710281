"""Sans-IO protocol state in structured arrays, worked on by functions in numba's nopython subset.

No clock, no socket, no random source: ``now`` is an argument, what is to be sent comes back in arrays. One set of
tables (:class:`vantun.session.tables.Tables`) holds every session of a worker, so that one call serves a whole batch.
"""
