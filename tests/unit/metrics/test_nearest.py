"""The search of nearest records leaves out pairs by bounds: what it finds are those of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from shardsynth.metrics import nearest
from shardsynth.metrics.nearest import STEP, Points, nearest_points


def points(rng: np.random.Generator, n: int, numbers: int, small: int, large: int) -> Points:
    return Points(
        np.round(rng.random((n, numbers)), 2).astype(np.float32),
        rng.integers(0, 4, (n, small)).astype(np.int16),
        rng.integers(0, 900, (n, large)) % 3,
        rng.integers(0, 9, n).astype(np.uint64),
    )


@pytest.mark.parametrize(("numbers", "small", "large"), [(3, 5, 1), (4, 0, 0), (0, 6, 0), (2, 300, 0), (6, 1, 0)])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("tile", [(16, 32), (256, 4_096)])
def test_the_nearest_of_all_pairs_are_found(monkeypatch, numbers, small, large, k, tile) -> None:
    monkeypatch.setattr(nearest, "_QUERIES", tile[0])
    monkeypatch.setattr(nearest, "_REFERENCES", tile[1])
    rng = np.random.default_rng(numbers + small)
    queries, references = (points(rng, n, numbers, small, large) for n in (70, 150))
    columns = numbers + small + large
    sums = np.abs(queries.numbers[:, None].astype(float) - references.numbers[None]).sum(axis=2)
    sums += (queries.small[:, None] != references.small[None]).sum(axis=2)
    sums += (queries.large[:, None] != references.large[None]).sum(axis=2)
    steps = np.rint(sums / columns / STEP)
    order = np.argsort(steps, axis=1, kind="stable")[:, :k]
    found = nearest_points(queries, references, columns, k)
    assert np.array_equal(found.index, order)
    assert np.array_equal(found.distance, np.take_along_axis(steps * STEP, order, 1).astype(np.float32))


def test_few_references_leave_places_empty() -> None:
    rng = np.random.default_rng(0)
    some = points(rng, 5, 2, 2, 0)
    found = nearest_points(some, some.take(np.arange(2)), 4, 3)
    assert (found.index[:, 2] == -1).all() and np.isinf(found.distance[:, 2]).all()
    assert (found.index[:, :2] >= 0).all()
    nothing = nearest_points(some, some.take(np.arange(0)), 4)
    assert (nothing.index == -1).all() and np.isinf(nothing.distance).all()
    assert np.isinf(nearest_points(some, some, 0).distance).all()
