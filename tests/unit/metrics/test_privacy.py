"""A planted memoriser fails loudly; independent columns and real rows do not; hand-worked figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.planted import Planted, planted

from shardsynth.metrics.intervals import auc, wilson
from shardsynth.metrics.nearest import Points
from shardsynth.metrics.privacy import Distances, Reference, closest_record, compare, privacy, pull

SIZES = {"adult": (3000, 400), "mds": (1600, 200)}


@pytest.fixture(scope="module", params=SIZES)
def tables(request: pytest.FixtureRequest) -> Planted:
    return planted(request.param, *SIZES[request.param])


@pytest.fixture(scope="module")
def reference(tables: Planted) -> Reference:
    return Reference(tables.coder, tables.train, tables.holdout)


def figures(reference: Reference, made: pa.Table) -> dict[str, Any]:
    points = reference.space.encode(made)
    return privacy(reference, points, compare(reference, points, np.ones(len(points), np.bool_)), 10 * len(points))


def levels(found: dict[str, Any]) -> dict[str, str]:
    return {finding["measure"]: finding["level"] for finding in found["findings"]}


def test_a_memoriser_fails(tables: Planted, reference: Reference) -> None:
    found = figures(reference, tables.memorised)
    assert {m for m, level in levels(found).items() if level == "fail"} >= {"pull", "exact_matches", "near_matches"}
    assert found["exact_matches"]["share"] == 1.0 and found["exact_matches"]["released"] == 10 * len(tables.memorised)
    assert found["pull"]["share"] == pytest.approx(1.0) and found["pull"]["low"] > 0.5
    assert found["neighbour_ratio"]["median"] == 0.0 < found["neighbour_ratio"]["holdout_median"]


def test_a_memoriser_that_releases_what_it_saw_is_seen_by_every_measure(tables: Planted) -> None:
    train = tables.train
    reference = Reference(tables.coder, train, tables.holdout)
    found = figures(reference, train)
    assert set(levels(found)) >= {"pull", "exact_matches", "near_matches", "membership"}
    # Cut to the holdout's size, most copies have lost their original: the pull does not.
    assert found["closest_record"]["closer_to_training"] > 0.52
    assert found["membership"]["auc"] == 1.0


def test_a_few_copies_among_many_honest_rows_are_seen(tables: Planted, reference: Reference) -> None:
    made = pa.concat_tables([tables.fresh, tables.memorised.slice(0, tables.fresh.num_rows // 3)])
    found = figures(reference, made)
    assert levels(found)["exact_matches"] in ("fail", "caution")
    assert found["exact_matches"]["share"] == pytest.approx(0.25, abs=0.01)
    assert 0.1 < found["pull"]["share"] < 0.5 or found["pull"]["low"] < 0.25 < found["pull"]["high"]


def test_copies_with_a_little_noise_are_seen(tables: Planted, reference: Reference) -> None:
    name = "age"
    moved = pa.array(np.asarray(tables.memorised[name]) + 1, tables.memorised[name].type)
    at = tables.memorised.schema.get_field_index(name)
    found = figures(reference, tables.memorised.set_column(at, tables.memorised.schema.field(name), moved))
    assert found["exact_matches"]["p_value"] > 0.01
    assert levels(found)["pull"] == "fail"


def test_real_rows_and_independent_columns_pass(tables: Planted, reference: Reference) -> None:
    for made in (tables.fresh, tables.independent):
        found = figures(reference, made)
        assert found["findings"] == []
        assert found["closest_record"]["low"] < 0.5 < found["closest_record"]["high"]
        assert found["pull"]["low"] < 0 < found["pull"]["high"]


def test_real_rows_pass_whatever_the_split() -> None:
    cautions = 0
    for seed in range(20):
        tables = planted("mds", 500, 100, seed)
        found = figures(Reference(tables.coder, tables.train, tables.holdout, seed), tables.fresh)
        assert "fail" not in levels(found).values()
        cautions += len(found["findings"])
    assert cautions <= 3  # five measures, each wrong once in 200


def test_parts_joined_are_the_whole(tables: Planted, reference: Reference) -> None:
    points = reference.space.encode(tables.fresh)
    searched = np.arange(len(points)) % 3 == 0
    whole = compare(reference, points, searched)
    cut = len(points) // 3
    parts = [compare(reference, points.take(p), searched[p]) for p in (np.arange(cut), np.arange(cut, len(points)))]
    joined = Distances.joined([part.to_arrays() for part in parts])
    for name, array in whole.to_arrays().items():
        assert np.array_equal(array, joined.to_arrays()[name]), name


def test_ties_count_half_and_a_row_that_wins_often_is_one_observation() -> None:
    floats = lambda *v: np.array(v, np.float32)  # noqa: E731
    winner = np.array([0, 0, 0, 5])
    distances = Distances(
        floats(1, 1, 1, 3),
        floats(2, 2, 1, 2),
        winner,
        np.zeros((0, 2), np.float32),
        floats(),
        winner,
        winner.astype(np.uint64),
    )
    found = closest_record(distances)
    assert found["closer_to_training"] == (2 + 0.5) / 4
    assert (found["ties"], found["strictly_closer"]) == (0.25, 0.5)
    assert found["effective_rows"] == pytest.approx(16 / 10)


def test_pull_is_the_share_of_copies() -> None:
    rng = np.random.default_rng(0)
    n, copies = 4000, 0.3
    train = rng.random(n) < 0.9 + 0.1 * copies  # nine tenths of the real rows are training rows
    near = np.where(train, 0.1, 0.3).astype(np.float32)
    none = np.zeros(0, np.float32)
    d = Distances(
        none,
        none,
        none.astype(int),
        np.stack([near, near], axis=1),
        np.full(n, 0.2, np.float32),
        np.arange(n),
        none.astype(np.uint64),
    )

    class Sides:
        train = Points(none, none, none, np.zeros(900, np.uint64))
        holdout = Points(none, none, none, np.zeros(100, np.uint64))

    found = pull(Sides, d)
    assert found["low"] < copies < found["high"] and found["share"] == pytest.approx(copies, abs=0.06)


def test_intervals() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 10)[0] == 0.0 and wilson(0.0, 10)[1] == pytest.approx(0.2775, abs=1e-4)
    assert wilson(0.3, 0) == (0.0, 1.0)
    assert auc([2, 3], [1, 2])[0] == (1 + 1 + 1 + 0.5) / 4
    assert auc([1, 1], [1])[0] == 0.5 and auc([], [1]) == (0.5, 0.0, 1.0)
