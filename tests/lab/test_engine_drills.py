"""Engines that fail in every way under a tunnel under load: no byte is lost or wrong, no nonce comes twice."""

from __future__ import annotations

import pytest

from accel.engine import Operation
from accel.life import State
from accel.unreliable import Mood
from tests.lab.drill import Drill, befall, make_drill

SIZE = 300_000
OUT = {State.SUSPECT, State.QUARANTINED, State.RETIRED}
ENCODE, DECODE, SEAL, OPEN = Operation


@pytest.mark.parametrize("mood", Mood, ids=lambda mood: mood.value)
def test_whatever_every_device_does(mood: Mood) -> None:
    drill = make_drill()
    drill.run(SIZE, befall(mood))
    assert drill.total("lost") == 0
    for nonces in drill.nonces:
        assert nonces.packets > 100
        assert nonces.again >= nonces.packets
    if mood in (Mood.WRONG, Mood.DENYING, Mood.OVERRUNNING):
        assert [drill.states(operation) for operation in Operation] == [{State.QUARANTINED}] * 4
        rungs = [rung for serving in drill.servings() for rung in serving.session.rungs]
        assert all(rung.life.until_cleared for rung in rungs if not rung.trusted)
    elif mood in (Mood.FAULTY, Mood.HANGING, Mood.LATE, Mood.DYING):
        assert all(drill.states(operation) <= OUT for operation in Operation)
        assert drill.total("redone") > 0


@pytest.mark.parametrize("rate", [0.3, 0.02])
@pytest.mark.parametrize(
    "mood", [Mood.BUSY, Mood.FAULTY, Mood.HANGING, Mood.LATE, Mood.DYING, Mood.DENYING], ids=lambda mood: mood.value
)
def test_now_and_then(mood: Mood, rate: float) -> None:
    drill = make_drill(seed=2)
    drill.run(SIZE, befall(mood, rate))
    assert drill.total("lost") == 0


@pytest.mark.parametrize("operation", [ENCODE, DECODE, SEAL], ids=lambda operation: operation.value)
@pytest.mark.parametrize("rate", [1.0, 0.1, 0.01])
def test_wrong_results_do_no_harm(operation: Operation, rate: float) -> None:
    """All parity of a device is computed again, rebuilt shards have a CRC, and a peer refuses what was sealed wrong."""
    drill = make_drill(seed=3)
    drill.run(SIZE, befall(Mood.WRONG, rate, operation))


def test_a_device_that_comes_back_serves_again() -> None:
    drill = make_drill()

    def strike(drill: Drill) -> None:
        device = drill.devices[0, SEAL]
        device.dead = True

    drill.run(SIZE, strike)
    serving = drill.network.client.plane.context.engines.seal
    device = next(rung for rung in serving.session.rungs if not rung.trusted)
    assert device.life.state in OUT
    drill.devices[0, SEAL].dead = False
    for _ in range(30):
        if device.life.state is State.SERVING:
            break
        drill.run(SIZE, lambda _: None)
    assert device.life.state is State.SERVING
    assert [change.state for change in device.life.history][:2] == [State.SERVING, State.SUSPECT]
