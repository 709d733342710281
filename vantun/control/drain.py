"""The time between SIGTERM and the end: new connections are refused, those that are open may come to theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

LOOK_EVERY = 0.1
"""Seconds between two looks at what is still open."""


async def drain(count: Callable[[], Awaitable[int]], seconds: float, hurry: asyncio.Event) -> None:
    """Wait until nothing is open, ``seconds`` are over, or ``hurry`` is set.

    Parameters
    ----------
    count
        Returns how many connections are open, 0 also when nobody knows.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    told = False
    while (left := end - loop.time()) > 0 and not hurry.is_set() and (opened := await count()):
        if not told:
            told = True
            log.info("%d connections are open: they have %.0f s; another signal ends them now", opened, left)
        try:
            async with asyncio.timeout(min(LOOK_EVERY, left)):
                await hurry.wait()
        except TimeoutError:
            continue
