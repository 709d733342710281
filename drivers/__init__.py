"""How to reach a device or the kernel; no policy, and no import of ``accel`` or ``vantun``.

``drivers`` is a plain name, and pip lets any other distribution install over it without a word. ``__vantun__`` is
how ``vantun`` recognises its own sister package: it is compared with ``vantun.__version__`` when ``vantun`` is
imported, so a foreign ``drivers`` is named there instead of failing far away from the cause.
"""

__vantun__ = "0.1.0"
