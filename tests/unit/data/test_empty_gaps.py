"""Nothing comes out in a gap of a column that is wider than all of its values."""

from __future__ import annotations

import numpy as np
import pytest

from shardsynth.data.cuts import cuts_of
from shardsynth.data.empty_gaps import empty_gaps
from shardsynth.data.values import Precision
from shardsynth.models.columns.marginals import Protection, cells_of_histogram, protected_ends, protected_marginal

LAB = np.random.default_rng(0).normal(7, 2, 6_000).round(1)


def marginal(values: np.ndarray):
    precision = Precision("decimal", digits=1)
    distinct, counts = np.unique(values, return_counts=True)
    low, high = float(distinct[0]), float(distinct[-1])
    cuts = cuts_of(distinct, counts, low, high, exact=True)
    hist = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=len(cuts) + 1)
    cells = cells_of_histogram(hist, cuts, low, high, precision)
    ends = protected_ends((distinct[:5], counts[:5]), (distinct[-5:], counts[-5:]), Protection())
    return protected_marginal(cells, ends, precision, Protection(), 0.0)


@pytest.mark.parametrize("missing", [[9999.0] * 300, [9998.0] * 3 + [9999.0] * 300, [9997.0] * 60 + [9999.0] * 80])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("values", [LAB, np.random.default_rng(1).integers(8_000, 90_000, 6_000) / 10])
def test_nothing_lies_between_the_values_and_a_code_for_unknown(values, missing, sign) -> None:
    far = np.array(missing) * (10 if values.max() > 1_000 else 1)
    model = marginal(sign * np.concatenate([values, far]))
    lo, hi = np.sort(sign * np.stack([model.lo, model.hi]), axis=0)
    genuine = hi < far.min() - 1
    assert hi[genuine].max() <= values.max() + 0.05
    assert (lo[~genuine] == hi[~genuine]).all() and set(lo[~genuine]) <= set(far)
    share = model.probability[genuine].sum()
    assert abs(share - len(values) / (len(values) + len(far))) < 1e-9


def test_the_largest_value_before_a_gap_is_that_of_no_single_row() -> None:
    model = marginal(np.concatenate([LAB, [14.9, 15.2], [9999.0] * 300]))
    assert np.sort(LAB)[-5] <= model.hi[-2] < 14.9


def test_a_tail_that_thins_out_has_no_gap() -> None:
    income = np.exp(np.random.default_rng(2).normal(10, 2, 5_000)).round()
    values, counts = np.unique(income, return_counts=True)
    assert not empty_gaps(values, values, counts, counts >= 5).any()
    with_one = np.append(values, values[-1] * 1_000)
    assert not empty_gaps(with_one, with_one, np.append(counts, 1), np.append(counts, 1) >= 5).any()
