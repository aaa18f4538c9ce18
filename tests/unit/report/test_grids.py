from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.report.grids import calendar_grid, clock_grid, linear_grid, log_grid

finite = st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)  # divided by a step, those are 0


@given(finite, st.floats(1e-3, 1e9), st.integers(10, 60))
def test_a_linear_grid_holds_its_range_in_about_the_slots_asked_for(low: float, width: float, slots: int) -> None:
    grid = linear_grid(low, low + width, slots, None)
    assert grid.edges[0] <= low + 1e-9 * abs(low) and grid.edges[-1] >= low + width
    assert (np.diff(grid.edges) > 0).all()
    assert grid.slots <= slots + 2
    assert len(grid.starts) == grid.slots + 1
    assert 1 <= len(grid.ticks) <= 6


def test_slots_of_whole_numbers_name_their_values() -> None:
    ages = linear_grid(17, 90, 60, 1.0)
    assert ages.label(0, 1) == "16 to 17"
    assert ages.label(1, 3) == "18 to 21"
    assert ages.label(0, 2, below=True) == "less than 20"
    assert ages.label(5, ages.slots, above=True) == "26 or more"
    assert [text for _, text in ages.ticks] == ["20", "40", "60", "80"]


def test_one_slot_per_value_where_there_are_few() -> None:
    grid = linear_grid(0, 3, 20, 1.0)
    assert grid.single
    assert [grid.label(k, k + 1) for k in range(grid.slots)] == ["0", "1", "2", "3"]


def test_a_common_unit_is_kept() -> None:
    grid = linear_grid(3, 703, 20, 7.0, origin=3.0)
    assert ((grid.edges + 3.5 - 3) % 7 == 0).all()


def test_values_on_an_edge_fall_right_of_it_whatever_their_last_bit() -> None:
    grid = linear_grid(0, 1, 20, 0.1)
    for value in (0.1 * 3, 0.3, float(np.float32(0.3))):
        slot = int(np.searchsorted(grid.edges, value, side="right")) - 1
        assert grid.label(slot, slot + 1) == "0.3"


@given(st.floats(1e-6, 1e6), st.floats(30, 1e6), st.integers(10, 60))
def test_a_logarithmic_grid_holds_its_range(low: float, ratio: float, slots: int) -> None:
    grid = log_grid(low, low * ratio, slots, None)
    assert grid.edges[0] <= low * (1 + 1e-9) and grid.edges[-1] >= low * ratio * (1 - 1e-9)
    assert (np.diff(grid.edges) > 0).all()
    assert grid.slots <= slots
    assert 1 <= len(grid.ticks) <= 13


@pytest.mark.parametrize(
    ("start", "stop", "label"),
    [
        ("2020-03-04", "2020-03-30", "2020-03-04 to 2020-03-05"),
        ("2015-02-11", "2019-11-30", "2015-02 to 2015-03"),
        ("1935-05-05", "2004-12-31", "1934 to 1936"),
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_calendar_slots_are_whole_days_months_or_years(start: str, stop: str, label: str, unit: str) -> None:
    low, high = (float(np.datetime64(text, unit).astype(np.int64)) for text in (start, stop))
    grid = calendar_grid(low, high, 60, unit)
    assert grid.label(0, 1) == label
    assert grid.edges[0] <= low and grid.edges[-1] > high


@pytest.mark.parametrize("unit", ["D", "s", "ms"])
def test_far_years_are_a_few_slots_too(unit: str) -> None:
    reach = 2.0**31 if unit == "D" else 2.0**63 / 1000
    grid = calendar_grid(-reach, reach, 60, unit)
    assert 20 <= grid.slots <= 62
    assert grid.edges[0] <= -reach and grid.edges[-1] > reach


def test_a_range_that_float64_cannot_hold_is_drawn_with_open_ends() -> None:
    grid = linear_grid(-1.7e308, 1.7e308, 20, None)
    assert np.isfinite(grid.edges).all() and 10 <= grid.slots <= 22


def test_times_of_day_have_no_date() -> None:
    grid = clock_grid(8 * 3.6e6, 17 * 3.6e6, 30, "ms")
    assert grid.starts[0] == "08:00"
