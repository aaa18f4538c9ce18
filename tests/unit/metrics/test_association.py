from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.metrics.association import contingency_similarity, cramers_v
from shardsynth.summaries.pair_tables import PairTables


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_cramers_v_is_scipys_without_empty_rows_and_columns(seed: int, rows: int, sizes: list[int]) -> None:
    association = pytest.importorskip("scipy.stats.contingency").association
    codes = np.array([np.random.default_rng([seed, k]).integers(0, s, rows) for k, s in enumerate(sizes)])
    tables = PairTables(sizes)
    tables.add(codes)
    found = cramers_v(tables)
    for i in range(len(sizes)):
        for j in range(i + 1, len(sizes)):
            table = tables.table(i, j)
            table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
            if min(table.shape) < 2:
                assert np.isnan(found[i, j])
            else:
                assert found[i, j] == pytest.approx(association(table, method="cramer"), abs=1e-12)
                assert found[j, i] == found[i, j]


def test_contingency_similarity_is_one_minus_total_variation() -> None:
    real, synthetic = PairTables([2, 3]), PairTables([2, 3])
    real.add(np.array([[0, 0, 1, 1], [0, 1, 2, 2]]))
    synthetic.add(np.array([[0, 1], [0, 2]]))
    assert contingency_similarity(real, synthetic)[0, 1] == pytest.approx(1 - 0.5 * (0.25 + 0.25))


def test_pairs_without_a_table_have_no_figure() -> None:
    tables = PairTables([2, 3, 3], leaders=1)
    tables.add(np.array([[0, 1], [0, 2], [0, 2]]))
    assert np.isnan(cramers_v(tables)[1, 2])
    assert cramers_v(tables)[0, 2] == 1.0
