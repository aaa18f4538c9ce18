"""Singling out, linkability, inference: by hand, on planted models, and beside what Anonymeter measured."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.counted import coder_of
from tests.tables.planted import Planted, planted

from shardsynth.metrics.attacks import _combinations, attacks, guessed, linked, matches, risk
from shardsynth.metrics.gower import Space
from shardsynth.metrics.intervals import Z95
from shardsynth.metrics.privacy import Reference, Z, compare, privacy


@pytest.fixture(scope="module", params={"adult": (2000, 500), "mds": (1200, 300)}.items(), ids=lambda p: p[0])
def tables(request: pytest.FixtureRequest) -> Planted:
    kind, sizes = request.param
    return planted(kind, *sizes)


def test_a_memoriser_is_attacked_with_success_and_real_rows_are_not(tables: Planted) -> None:
    reference = Reference(tables.coder, tables.train, tables.holdout)
    found = {
        name: attacks(reference.space, tables.train, tables.holdout, getattr(tables, name), [], 0, Z)
        for name in ("memorised", "fresh")
    }
    for attack in ("singling_out_one", "linkability", "inference"):
        assert found["memorised"][attack]["low"] > 0.05, attack
    assert all(found["fresh"][attack]["low"] == 0.0 for attack in found["fresh"])
    points = reference.space.encode(tables.memorised)
    distances = compare(reference, points, np.ones(len(points), np.bool_))
    figures = privacy(reference, points, distances, 10**6, found["memorised"])
    failed = {f["measure"] for f in figures["findings"] if f["level"] == "fail"}
    assert failed >= {"attacks.singling_out_one", "attacks.linkability", "attacks.inference"}


def test_risk_by_hand() -> None:
    hits = [np.array([1] * 60 + [0] * 40), np.array([1] * 20 + [0] * 80)]
    found = risk(hits, 0.0)
    assert found["risk"] == pytest.approx((0.6 - 0.2) / 0.8) and found["low"] == found["high"] == found["risk"]
    # Anonymeter 1.1.0: EvaluationResults(100, 60, 0, 20).risk() at 95 %
    found = risk(hits, Z95)
    assert (found["risk"], found["low"], found["high"]) == pytest.approx((0.48828, 0.35855, 0.61801), abs=1e-5)
    assert risk(hits[::-1], Z95)["risk"] == 0.0
    assert risk(hits, 0.0, correction=2.0)["risk"] == pytest.approx((0.6 - 0.4) / 0.6)


def test_predicates() -> None:
    values = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 5.0]])
    assert matches(((0, ">=", 2.0),), values).tolist() == [False, True, True]
    assert matches(((0, "<=", 2.0), (1, "missing", 0.0)), values).tolist() == [False, True, False]
    assert matches(((1, "==", 5.0),), values).tolist() == [True, False, True]


def test_predicates_take_more_columns_where_few_leave_no_row_alone() -> None:
    rng = np.random.default_rng(0)
    flags = (rng.random((400, 40)) < 0.1).astype(float)
    found = _combinations(flags, np.ones(40, np.bool_), rng)
    assert len(found) == 500 and {len(predicate) for predicate in found} <= {3, 6, 12, 24}
    assert all(matches(predicate, flags).sum() == 1 for predicate in found)
    numbers = rng.normal(size=(400, 5))
    assert {len(p) for p in _combinations(numbers, np.zeros(5, np.bool_), rng)} == {3}


def test_links_and_guesses_by_hand() -> None:
    made = pa.table({"a": [0.0, 10.0], "b": ["x", "y"], "c": [0.0, 10.0], "d": ["p", "q"]})
    targets = pa.table({"a": [1.0, 9.0, 1.0], "b": ["x", "y", "x"], "c": [1.0, 9.0, 9.0], "d": ["p", "q", "q"]})
    space = Space.of(coder_of(made), [made, targets])
    # By (a, c) and by (b, d) to the same row, to the same row, by (a, c) to either.
    assert linked(space, targets, made)[:2].tolist() == [True, True]
    apart = pa.table({"a": [0.0], "b": ["y"], "c": [0.0], "d": ["q"]})
    assert linked(space, apart, made).tolist() == [False]
    assert guessed(space, "d", targets, made).tolist()[:2] == [True, True]
    assert guessed(space, "d", apart, made).tolist() == [False]
    near = pa.table({"a": [10.4, 10.6], "b": ["y", "y"], "c": [10.0, 10.0], "d": ["q", "q"]})
    assert guessed(space, "a", near, made).tolist() == [True, False]


#: Anonymeter 1.1.0 on 1,000 generated training and control rows, half of the synthetic rows copies of training rows:
#: risk and 95 % interval (benchmarks/attacks.py, 2026-11-24).
ANONYMETER = {
    "adult": {"linkability": (0.287, 0.247, 0.328), "inference": (0.394, 0.352, 0.437)},
    "mds": {"linkability": (0.285, 0.245, 0.325), "inference": (0.394, 0.352, 0.437)},
}


@pytest.mark.parametrize(("kind", "secret"), [("adult", "weight"), ("mds", "years")])
def test_the_risks_are_anonymeters(kind: str, secret: str) -> None:
    found = planted(kind, 1000, 1000, seed=3)
    three = (found.train, found.holdout, found.fresh)
    whole = [name for name in found.train.column_names if not any(t[name].null_count for t in three)]
    train, holdout, fresh, copies = (t.select(whole) for t in (*three, found.memorised))
    made = pa.concat_tables([fresh.slice(0, 500), copies.slice(0, 500)])
    coder = coder_of(train, {c.name: c.sdtype for c in found.coder.table if c.name in whole})
    ours = attacks(Space.of(coder, [train, holdout]), train, holdout, made, [secret], 0, Z95)
    for attack, (value, low, high) in ANONYMETER[kind].items():
        mine = ours[attack]
        assert abs(mine["risk"] - value) < (high - low + mine["high"] - mine["low"]) / 2
