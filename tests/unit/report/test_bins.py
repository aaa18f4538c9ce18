from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.report.bins import FineBins, merged, slots_for
from shardsynth.report.grids import linear_grid

counts = st.lists(st.integers(0, 12), min_size=3, max_size=62)


@given(counts, st.integers(1, 8), st.booleans())
def test_no_bar_holds_few_real_rows_and_no_row_is_lost(real: list[int], least: int, whole_numbers: bool) -> None:
    slots = len(real) - 2
    grid = linear_grid(0, slots - 1, slots, 1.0) if whole_numbers else linear_grid(0, slots * 0.999, slots, None)
    table = np.resize(np.array(real, dtype=np.int64), grid.slots + 2)
    made = np.ones(len(table), dtype=np.int64)
    bars = merged(table, grid, [made], least)
    sums = [int(table[part].sum()) for _, part in bars]
    assert sum(sums) == table.sum()
    assert sum(int(made[part].sum()) for _, part in bars) == made.sum()
    if table.sum() >= least:
        assert all(total == 0 or total >= least for total in sums)


def test_the_ends_are_open_so_that_no_largest_value_is_told() -> None:
    grid = linear_grid(0, 99, 10, 1.0)
    real = np.array([0, *[50] * grid.slots, 0], dtype=np.int64)
    bars = merged(real, grid, [], 5)
    assert bars[0][0].below and bars[-1][0].above
    single = linear_grid(0, 9, 10, 1.0)
    real = np.array([0, *[50] * single.slots, 0], dtype=np.int64)
    bars = merged(real, single, [], 5)  # here the largest value is that of 50 rows
    assert not bars[0][0].below and not bars[-1][0].above


def test_rows_of_fine_bins_land_in_their_slots() -> None:
    values = np.array([1.0, 2.0, 5.0])
    cuts = np.unique(np.concatenate([values, np.nextafter(values, np.inf)]))
    real = np.zeros(len(cuts) + 1, dtype=np.int64)
    real[1], real[3], real[5] = 10, 20, 30
    fine = FineBins(cuts, real)
    grid = linear_grid(1, 5, 10, 1.0)
    assert fine.spread_over(real, grid).tolist() == [0, 10, 20, 0, 0, 30, 0]
    beyond = real.copy()
    beyond[0], beyond[-1] = 3, 4  # synthetic rows outside the real range
    assert fine.spread_over(beyond, grid).tolist() == [3, 10, 20, 0, 0, 30, 4]


def test_a_value_of_most_rows_is_a_spike() -> None:
    values = np.arange(0.0, 300.0)
    cuts = np.unique(np.concatenate([values, np.nextafter(values, np.inf)]))
    real = np.zeros(len(cuts) + 1, dtype=np.int64)
    real[1::2] = 10
    real[1] = 5_000
    fine = FineBins(cuts, real)
    assert [fine.low[k] for k in fine.spikes(5, dense=False)] == [0.0]


def test_more_rows_more_slots() -> None:
    assert [slots_for(n) for n in (0, 100, 1000, 10**9)] == [10, 14, 30, 60]
