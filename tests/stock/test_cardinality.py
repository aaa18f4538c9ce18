"""Rows per owner beside SDMetrics' cardinality of a relationship."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shardsynth.metrics.sequences import Sequences, similarity


def test_rows_per_owner_are_sdmetrics_cardinality() -> None:
    from sdmetrics.multi_table import CardinalityShapeSimilarity

    random = np.random.default_rng(1)
    sides, counted = [], []
    for shift in (0, 1):
        counts = random.poisson(2 + shift, 400)
        owner = np.repeat(np.arange(400), counts)
        sides.append({"a": pd.DataFrame({"id": np.arange(400)}), "b": pd.DataFrame({"a": owner, "x": owner % 3})})
        counted.append(Sequences.of((), np.zeros(0, np.bool_), np.zeros((len(owner), 0)), owner, 400, None))
    link = {
        "parent_table_name": "a",
        "parent_primary_key": "id",
        "child_table_name": "b",
        "child_foreign_key": "a",
    }
    columns = {"a": {"columns": {"id": {"sdtype": "id"}}}, "b": {"columns": {"a": {"sdtype": "id"}}}}
    metadata = {"tables": columns, "relationships": [link]}
    wanted = CardinalityShapeSimilarity.compute(*sides, metadata)
    assert similarity(*counted)["rows_per_owner"] == pytest.approx(wanted, abs=1e-9)
