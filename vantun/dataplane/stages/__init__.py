"""One file per stage of a packet's journey; each runs once per batch.

In: open -> accept -> decode -> deliver. Out: refill -> encode -> schedule -> seal. Receiving and sending datagrams,
before and after, are the worker's (drivers.linux.udp).
"""
