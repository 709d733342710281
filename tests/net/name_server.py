"""Answers every question of DNS with an A record of its own address: ``python -m tests.net.name_server ADDRESS``."""

from __future__ import annotations

import asyncio
import sys

from tests.net.services import DNS, Dns


async def main(address: str) -> None:
    """Serve until the end."""
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: Dns(address), (address, DNS))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
