"""Wide, zero-inflated tables: latent correlations come from the Gram matrix, not from normal scores alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri
from tests.models.copula_builder import native

from shardsynth.models.copula.hermite import hermite_coefficients, solve_correlations

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from wide import wide_table  # noqa: E402


def test_latent_correlations_of_six_hundred_counts_are_right_within_sampling_error() -> None:
    """The small form of the 3,000 columns that `make bars` fits."""
    columns, rows = 520, 3000
    table, truth, latents = wide_table(columns, rows)
    model = native(table)
    upper = np.triu_indices(columns, 1)
    place = [i for i, latent in enumerate(model.latents) if latent.kind == "value"]
    assert len(place) == columns
    error = (model.correlation[np.ix_(place, place)] - truth)[upper]
    best = (np.corrcoef(latents.T) - truth)[upper]
    assert np.sqrt((error**2).mean()) < 1.6 * np.sqrt((best**2).mean())
    assert abs(error.mean()) < 0.003
    strong = np.abs(truth[upper]) > 0.5
    assert strong.sum() > 1000
    assert abs((error * np.sign(truth[upper]))[strong].mean()) < 0.015
    drawn = model.draw(0, 0, 20_000)
    for name in table.column_names[:50]:
        real, synthetic = np.asarray(table[name]), np.asarray(drawn[name])
        assert abs((real == 0).mean() - (synthetic == 0).mean()) < 0.03
        assert synthetic.min() >= 0 and synthetic.max() <= real.max()


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.8, 0.95])
def test_zeros_do_not_pull_correlations_to_zero(zeros: float) -> None:
    """Plain normal scores read a latent 0.70 as 0.54 at 80 % zeros (and ever less beyond)."""
    rng = np.random.default_rng(0)
    n, r = 400_000, 0.7
    z = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], n).T
    cuts = ndtri(np.unique([zeros, *np.linspace(zeros, 1, 21)])[:-1].clip(1e-9))
    codes = np.searchsorted(cuts, z)
    codes -= codes.min()
    mass = np.bincount(codes.ravel(), minlength=codes.max() + 1)
    middle = ndtri((np.cumsum(mass) - 0.5 * mass) / mass.sum())
    scores = middle - np.average(middle, weights=mass)
    moment = float((scores[codes[0]] * scores[codes[1]]).mean())
    coefficients = np.stack([hermite_coefficients(mass, scores)] * 2)
    (found,) = solve_correlations(np.array([[1.0, moment], [moment, 1.0]]), coefficients, n)[0, 1:]
    assert found == pytest.approx(r, abs=0.012)
    plain = np.corrcoef(scores[codes[0]], scores[codes[1]])[0, 1]
    assert zeros < 0.5 or plain < r - 0.05
