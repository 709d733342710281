"""One flow with bytes in both directions, to be checked byte by byte: the load of the lab."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from vantun.errors import VerificationError
from vantun.lab.endpoint import MemoryPort
from vantun.lab.network import Network


@dataclass
class Transfer:
    """One flow with bytes in both directions."""

    up: bytes
    down: bytes
    near: MemoryPort
    target: str

    def done(self, network: Network) -> bool:
        """Return whether both ends have seen the end of the stream."""
        far = network.accepted.get(self.target)
        return far is not None and far.ended and self.near.ended

    def check(self, network: Network) -> None:
        """Compare what arrived with what was sent; raises VerificationError."""
        far = network.accepted[self.target]
        for name, got, sent in (("up", far.received, self.up), ("down", self.near.received, self.down)):
            if hashlib.sha256(got).digest() != hashlib.sha256(sent).digest():
                raise VerificationError(f"{name}: {len(got)} of {len(sent)} B arrived, or they differ")
        if not (self.near.closed and far.closed):
            raise VerificationError("the bytes are right, but a port was left open")


def payload(size: int, seed: int) -> bytes:
    """Return seeded random bytes."""
    return np.random.default_rng(seed).bytes(size)


def start_transfer(network: Network, up: int, down: int, target: str = "origin.example:80", seed: int = 7) -> Transfer:
    """Open a flow that carries ``up`` bytes to the server and ``down`` back, each side closing when it is through."""
    transfer = Transfer(payload(up, seed), payload(down, seed + 1), MemoryPort(), target)

    def fill(name: str, port: MemoryPort) -> None:
        if name == target:
            port.feed(transfer.down)
            port.finish()

    network.on_accept = fill
    transfer.near.feed(transfer.up)
    transfer.near.finish()
    network.open(target, transfer.near)
    return transfer
