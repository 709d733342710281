from __future__ import annotations

import pytest

from vantun.lab.ceiling import ceiling, path_ceiling


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, 94.8), (0.01, 93.8), (0.05, 90.0), (0.10, 85.3), (0.15, 80.6), (0.20, 75.8)]
)
def test_the_ceiling_of_a_path_of_100_mbit(loss: float, expected: float) -> None:
    """The figures are those of a calculation by hand that the project's targets were set by."""
    assert round(path_ceiling(100e6, loss) / 1e6, 1) == expected


def test_the_ceiling_of_paths_is_their_sum_while_they_are_usable() -> None:
    both = ceiling([(100e6, 0.05, 1.0), (100e6, 0.03, 1.0)])
    assert both == path_ceiling(100e6, 0.05) + path_ceiling(100e6, 0.03)
    assert ceiling([(100e6, 0.05, 0.25), (100e6, 0.03, 1.0)]) == pytest.approx(
        path_ceiling(100e6, 0.05) / 4 + path_ceiling(100e6, 0.03)
    )
