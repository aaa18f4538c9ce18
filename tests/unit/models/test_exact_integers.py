"""Integers that float64 cannot tell apart, and zeros without a sign."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from shardsynth.data.values import Precision
from shardsynth.models.columns.exact import with_exact_integers
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.forms import StorageForm, below_floats
from shardsynth.sampling.conditions import parse_conditions

WANTED = 500_000_000_000_000_001


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (f"a == {WANTED}", [WANTED, WANTED]),
        (f"a in [{WANTED}, {WANTED + 998}]", [WANTED, WANTED + 998]),
        (f"a >= {WANTED}", [WANTED, WANTED + 999]),
        (f"a < {WANTED}", [WANTED - 1, WANTED - 1]),
    ],
)
def test_rows_have_exactly_the_values_of_the_condition(where: str, expected: list[int]) -> None:
    batch = pa.record_batch({"a": pa.array([WANTED - 1, WANTED + 999]), "b": pa.array([1, 2])})
    changed = with_exact_integers(batch, parse_conditions(where))
    assert changed["a"].to_pylist() == expected and changed["b"].to_pylist() == [1, 2]


def test_small_integers_and_missing_ones_stay() -> None:
    batch = pa.record_batch({"a": pa.array([5, None])})
    assert with_exact_integers(batch, parse_conditions("a >= 3")).equals(batch)


def test_long_numbers_are_odd_half_of_the_time() -> None:
    floats = np.random.default_rng(0).uniform(1e17, 9e17, 10_000)
    values = below_floats(floats.astype(np.int64))
    assert 0.45 < (values % 2).mean() < 0.55
    assert (np.abs(values - floats.astype(np.int64)) < np.spacing(9e17)).all()
    largest = np.array([2**63 - 1, 7, -(2**62)], np.int64)
    assert below_floats(largest)[0] <= 2**63 - 1 and below_floats(largest)[1] == 7


def test_no_zero_has_a_sign() -> None:
    snapped = Precision("decimal", digits=1).snap(np.array([-0.04, 0.0, -1.0]))
    assert not np.signbit(snapped[:2]).any() and snapped[2] == -1.0


def test_grids_of_small_floats_reach_the_largest_value() -> None:
    """The steps of a grid of hundredths are a hundred times the values, and may be beyond the type."""
    marginal = Marginal("axis", np.array([1.0]), np.array([0.0]), np.array([1000.0]))
    column = FittedColumn("a", "number", "latent", marginal, None, Precision("decimal", digits=2))
    spread = StorageForm.of(column, pa.float16()).spread(marginal)
    assert spread.lo[0] + spread.width[0] == 100_000
