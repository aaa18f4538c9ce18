"""What flags which planted model: independent columns by pairs, utility and detection; a memoriser by privacy alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.planted import Planted, planted

from shardsynth.data.coding import TableCoder
from shardsynth.metrics.quality import quality
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.ranges import ScoreRanges


def counted(coder: TableCoder, table: pa.Table) -> Counts:
    ranges = ScoreRanges.empty(coder.columns)
    batches = [b for b in table.combine_chunks().to_batches() if b.num_rows]
    for batch in batches:
        ranges.update(batch)
    counts = Counts.empty(coder, fit=False, score=ranges)
    for batch in batches:
        counts.update(batch, 0)
    return counts


def lost_links(found: dict) -> float:
    """Mean loss of association over the pairs that are linked in the real rows."""
    losses = []
    for pair in found["pairs"]:
        kind = "" if pair["metric"] == "CorrelationSimilarity" else "_association"
        real, made = (pair[f"{side}{kind}"] for side in ("real", "synthetic"))
        if real is not None and made is not None and abs(real) > 0.3:
            losses.append(abs(real) - abs(made))
    return float(np.mean(losses))


@pytest.mark.parametrize("kind", ["adult", "mds"])
def test_pairs_flag_independent_columns_and_neither_real_rows_nor_a_memoriser(kind: str) -> None:
    tables: Planted = planted(kind, 3000, 1000)
    real = counted(tables.coder, tables.train)
    made = {"holdout": tables.holdout, "fresh": tables.fresh, "memorised": tables.memorised}
    made["independent"] = tables.independent.slice(0, 1000)
    found = {name: quality(real, counted(tables.coder, table), tables.coder) for name, table in made.items()}
    assert found["independent"]["column_shapes"] > found["holdout"]["column_shapes"] - 0.02
    assert found["independent"]["score"] < min(found[name]["score"] for name in ("holdout", "fresh"))
    for name in ("holdout", "fresh", "memorised"):
        assert abs(lost_links(found[name])) < 0.05, name
    assert lost_links(found["independent"]) > 0.2
