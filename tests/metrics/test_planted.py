"""What flags which planted model: independent columns by pairs, utility and detection; a memoriser by privacy alone."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tests.metrics.planted import Planted, planted

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


@pytest.mark.parametrize("kind", ["adult", "mds"])
def test_pairs_flag_independent_columns_and_neither_real_rows_nor_a_memoriser(kind: str) -> None:
    tables: Planted = planted(kind, 3000, 1000)
    real = counted(tables.coder, tables.train)
    sizes = {"holdout": tables.holdout, "fresh": tables.fresh, "memorised": tables.memorised}
    sizes["independent"] = tables.independent.slice(0, 1000)
    found = {name: quality(real, counted(tables.coder, table), tables.coder) for name, table in sizes.items()}
    reference = found["holdout"]
    for name in ("fresh", "memorised"):
        # Not the default score: its few pairs are cut into tenths of a range that one heavy tail decides.
        assert found[name]["all_pairs"]["column_pair_trends"] > reference["all_pairs"]["column_pair_trends"] - 0.03
    assert found["independent"]["column_shapes"] > reference["column_shapes"] - 0.02
    shuffled, honest = (found[name]["all_pairs"]["column_pair_trends"] for name in ("independent", "fresh"))
    assert shuffled < honest - 0.05
