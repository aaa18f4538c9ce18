"""What the networks see of a table, and what of it may stand in a model file."""

from __future__ import annotations

import numpy as np
import pytest

from shardsynth.models.ctgan.modes import fit_modes


def histogram(values: np.ndarray, bins: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count, edges = np.histogram(values, bins)
    used = count > 0
    return (0.5 * (edges[1:] + edges[:-1]))[used], count[used].astype(float), np.diff(edges)[used]


def test_as_many_modes_as_the_stock_mixture_and_as_likely() -> None:
    mixture = pytest.importorskip("sklearn.mixture")
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(size=8000))
    stock = mixture.BayesianGaussianMixture(
        n_components=10,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=0.001,
        random_state=0,
        max_iter=300,
    ).fit(values[:, None])
    modes = fit_modes(*histogram(values, 1000), len(values))
    density = modes.weight / modes.std * np.exp(-0.5 * ((values[:, None] - modes.mean) / modes.std) ** 2)
    likelihood = np.log(density.sum(axis=1) / np.sqrt(2 * np.pi)).mean()
    assert abs(len(modes) - (stock.weights_ > 0.005).sum()) <= 2
    assert abs(likelihood - stock.score(values[:, None])) < 0.05
