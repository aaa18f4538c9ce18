"""What a copula fitted to a real table must keep: SDMetrics' quality, exact relations, shared gaps, rare values unseen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from shardsynth.models.copula.dependence import polychoric
from shardsynth.models.copula.nearest import nearest_correlation

# ---------------------------------------------------------------- SDV's distributions and encoding


# ---------------------------------------------------------------- dependence


def tables_of(r: float, one: list[float], other: list[float], n: int, rng: np.random.Generator) -> Any:
    z = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], n)
    codes = [np.searchsorted(np.cumsum(p)[:-1], ndtr(z[:, i])) for i, p in enumerate((one, other))]
    return np.bincount(codes[0] * len(other) + codes[1], minlength=len(one) * len(other)).reshape(len(one), -1)


def test_polychoric_correlations_are_the_latent_ones() -> None:
    rng = np.random.default_rng(4)
    cases = [
        (r, p, q) for r in (-0.9, -0.3, 0.0, 0.5, 0.85) for p, q in (([0.5, 0.5], [0.9, 0.1]), ([0.2] * 5, [0.1] * 10))
    ]
    found = polychoric([tables_of(r, p, q, 40_000, rng) for r, p, q in cases]).correlation
    assert np.abs(found - [r for r, _, _ in cases]).max() < 0.04


def test_an_empty_cell_does_not_mean_certainty() -> None:
    table = np.array([[2800, 60], [90, 0]])
    (found,) = polychoric([table]).correlation
    assert -0.9 < found < -0.05


@pytest.mark.parametrize("weighted", [False, True])
def test_the_nearest_correlation_matrix(weighted: bool) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.5, (25, 25))
    target = np.clip(np.triu(noise, 1) + np.triu(noise, 1).T, -1, 1) + np.eye(25)
    zero = np.zeros((25, 25), dtype=bool)
    zero[3, 4] = zero[4, 3] = weighted
    weight = np.exp(rng.normal(0, 1, (25, 25)))
    found = nearest_correlation(target, weight + weight.T if weighted else None, zero if weighted else None)
    assert np.array_equal(found, found.T) and (np.diag(found) == 1).all()
    assert np.linalg.eigvalsh(found)[0] > 0
    assert not weighted or found[3, 4] == 0
    shrunk = np.eye(25) + (target - np.eye(25)) / (1 - np.linalg.eigvalsh(target)[0])
    assert np.linalg.norm(found - target) < np.linalg.norm(shrunk - target)
    assert np.array_equal(nearest_correlation(found), found)
