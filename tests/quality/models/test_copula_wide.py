"""Wide, zero-inflated tables: latent correlations come from the Gram matrix, not from normal scores alone."""

from __future__ import annotations

import sys

import numpy as np
from tests.tables.copula import native
from tests.tools import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
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
        assert synthetic.min() >= 0 and (synthetic > real.max()).mean() < 0.005, "tails go a little beyond"
