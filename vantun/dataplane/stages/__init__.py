"""The stages of a packet's journey; each runs once per batch. Those that need no Python between them share a file.

In: open -> accept -> decode -> deliver. Out: refill -> encode -> schedule -> seal. Receiving and sending datagrams,
before and after, are the worker's (drivers.linux.udp).
"""
