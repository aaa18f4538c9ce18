"""Gower distances against the definition, pair by pair, and against SDMetrics' distance to the closest record."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables.counted import coder_of

from shardsynth.metrics import gower, nearest
from shardsynth.metrics.gower import Space


def by_definition(a: dict, b: dict, numbers: dict[str, float]) -> float:
    total = 0.0
    for name, mine in a.items():
        other = b[name]
        if mine is None or other is None:
            total += float((mine is None) != (other is None))
        elif numbers.get(name, 0) > 0:
            total += abs(mine - other) / numbers[name]
        else:
            total += float(mine != other)
    return total / len(a)


cell = st.one_of(st.none(), st.integers(-5, 5))
row = st.tuples(cell, cell, st.sampled_from(["a", "b", "c", None]), st.sampled_from(["x", "y"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=3, max_size=30), st.integers(1, 3))
def test_the_nearest_are_those_of_the_definition(rows: list[tuple], k: int) -> None:
    names = ("n", "m", "c", "d")
    types = (pa.int16(), pa.float64(), pa.string(), pa.string())
    table = pa.table({name: pa.array([r[i] for r in rows], types[i]) for i, name in enumerate(names)})
    space = Space.of(coder_of(table), [table])
    if space.columns < len(names):
        return  # a column without a value is not learned
    points = space.encode(table)
    found = space.nearest(points, points, k, same=True)
    plain = table.to_pylist()
    ranges = {
        name: float(max(v) - min(v)) for name in ("n", "m") if (v := [r[name] for r in plain if r[name] is not None])
    }
    for i, mine in enumerate(plain):
        want = sorted(by_definition(mine, other, ranges) for j, other in enumerate(plain) if j != i)[:k]
        assert found.distance[i, : len(want)] == pytest.approx(want, abs=2e-6)
        assert np.isinf(found.distance[i, len(want) :]).all()
        assert i not in found.index[i]


def test_blocks_and_many_categories_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=900), mask=rng.random(900) < 0.1),
            "many": pa.array([f"k{v}" for v in rng.integers(0, 400, 900)]),
            "few": pa.array([f"k{v}" for v in rng.integers(0, 4, 900)]),
        }
    )
    space = Space.of(coder_of(table), [table])
    points = space.encode(table)
    assert points.large.shape[1] == 1 and points.small.shape[1] == 1
    whole = space.nearest(points, points, 2)
    monkeypatch.setattr(nearest, "_QUERIES", 7)
    monkeypatch.setattr(nearest, "_REFERENCES", 11)
    parts = space.nearest(points, points, 2)
    assert np.array_equal(whole.distance, parts.distance)
    assert (whole.distance[:, 0] == 0).all()
    monkeypatch.setattr(gower, "_MOST_BYTES", 2)
    as_codes = space.encode(table)
    assert as_codes.small.shape[1] == 0
    assert np.array_equal(space.nearest(as_codes, as_codes, 2).distance, whole.distance)


def test_equal_rows_have_equal_keys_and_no_others() -> None:
    table = pa.table({"x": [1.0, 1.0, -0.0, 0.0, None, None, 2.0], "c": ["a", "b", "a", "a", "a", "a", None]})
    keys = Space.of(coder_of(table), [table]).encode(table).keys
    assert keys[2] == keys[3] and keys[4] == keys[5]
    assert len(set(keys.tolist())) == 5
