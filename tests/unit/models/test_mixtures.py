"""Mixtures of quantile functions."""

from __future__ import annotations

import numpy as np
import pytest

from shardsynth.data.values import Precision
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.mixtures import mixture


def axis(probability, lo, hi) -> Marginal:
    return Marginal("axis", *(np.array(x, np.float64) for x in (probability, lo, hi)))


def test_a_mixture_has_the_segments_and_atoms_of_its_parts() -> None:
    whole, own = axis([0.5, 0.5], [0, 4], [4, 8]), axis([0.25, 0.75], [2, 6], [6, 6])
    mixed, (of_whole, of_own) = mixture([0.8, 0.2], [whole, own], Precision())
    assert mixed.lo.tolist() == [0, 2, 4, 6, 6] and mixed.hi.tolist() == [2, 4, 6, 6, 8]
    assert of_whole == pytest.approx([0.25, 0.25, 0.25, 0, 0.25])
    assert of_own == pytest.approx([0, 0.125, 0.125, 0.75, 0])
    assert mixed.probability == pytest.approx(0.8 * of_whole + 0.2 * of_own)


@pytest.mark.parametrize("precision", [Precision("integer", 3, 10), Precision("decimal", digits=2)])
def test_on_a_grid_every_point_has_the_probability_of_the_parts(precision: Precision) -> None:
    unit = 10.0 if precision.kind == "integer" else 0.01
    at = lambda k: precision.origin + unit * k  # noqa: E731
    parts = [
        axis([0.6, 0.4], [at(0) - 0.498 * unit, at(6) - 0.498 * unit], [at(5) + 0.498 * unit, at(9) + 0.498 * unit]),
        axis([0.5, 0.5], [at(3), at(4) - 0.498 * unit], [at(3), at(7) + 0.498 * unit]),
    ]
    mixed, masses = mixture([0.9, 0.1], parts, precision)
    found = precision.snap(mixed.quantile((np.arange(100_000) + 0.5) / 100_000))
    points, counts = np.unique(np.rint((found - precision.origin) / unit), return_counts=True)
    wanted = 0.9 * np.array([0.1] * 10) + 0.1 * np.array([0, 0, 0, 0.5, *[0.125] * 4, 0, 0])
    assert points.tolist() == list(range(10))
    assert counts / 100_000 == pytest.approx(wanted, abs=1e-3)
    assert [m.sum() for m in masses] == pytest.approx([1, 1])
    assert (mixed.lo[1:] >= mixed.hi[:-1]).all()


def test_numbers_too_large_for_halves_of_their_grid_are_not_mixed() -> None:
    wide = axis([1.0], [0.0], [2.0**60])
    assert mixture([0.5, 0.5], [wide, wide], Precision("integer")) is None
