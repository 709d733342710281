"""One device for many processes: a service that owns it, rings in shared memory, and a client that is an engine.

The service (:mod:`accel.service.server`) gathers what its clients ask within a short time into one job of the device's
own engine. A client (:mod:`accel.service.client`) is an engine like any other. They share a memory of the service's
making (:mod:`accel.service.ring`); keys, and nothing else of value, go over the socket beside it.
"""
