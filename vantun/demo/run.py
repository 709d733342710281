"""The demo from beginning to end."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from vantun.demo.appliances import Workplace
from vantun.demo.origin import OriginProcess, random_bytes
from vantun.demo.phase import PhaseFigures, PhaseRun, Progress
from vantun.demo.scene import Settings


class Demo:
    """Plays every phase of ``settings``; ``phases`` fills as they end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phases: list[PhaseFigures] = []

    def play(self) -> Generator[Progress, None, None]:
        """Run and yield the progress. Everything that was started has ended when this is closed or exhausted."""
        with ExitStack() as stack:
            stack.enter_context(_ended_by_sigterm())
            yield Progress("", "making a certificate and random bytes")
            place = stack.enter_context(Workplace())
            origin = stack.enter_context(OriginProcess(self.settings.down, self.settings.seed))
            data = random_bytes(self.settings.up, self.settings.seed + 1)
            for phase in self.settings.phases:
                run = PhaseRun(self.settings, phase, place, origin, data)
                yield from run.play()
                assert run.figures is not None, "a phase that was played has figures"
                self.phases.append(run.figures)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that it cleans up as well."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
