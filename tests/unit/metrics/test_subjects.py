"""Subjects as rows of numbers, and a classifier that tells them apart."""

from __future__ import annotations

import numpy as np
import pytest

from shardsynth.metrics.subjects import SubjectTable, aggregates, subjects_c2st, subjects_closeness


def test_aggregates_of_three_subjects() -> None:
    values = np.array([[1.0, 0], [3.0, 0], [np.nan, 1], [5.0, 1]])
    found = aggregates("visits", ["x", "ward"], np.array([False, True]), values, np.array([0, 0, 0, 2]), 3)
    assert found.names == ("visits: rows", "visits: mean of x", "visits: distinct x", "visits: distinct ward")
    assert found.values[:, [0, 2, 3]].tolist() == [[3, 2, 2], [0, 0, 0], [1, 1, 1]]
    assert found.values[[0, 2], 1].tolist() == [2, 5] and np.isnan(found.values[1, 1])


def people(subjects: int, seed: int, *, dealt: bool = False) -> SubjectTable:
    """Subjects with four to eight visits, whose value is about their own; ``dealt``: the rows go to random subjects."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(subjects), rng.integers(4, 9, subjects))
    own = rng.normal(0, 3, subjects)[subject] + rng.normal(0, 1, len(subject))
    values = rng.permutation(own) if dealt else own
    return aggregates("visits", ["x"], np.array([False]), values[:, None], subject, subjects)


def test_rows_dealt_to_random_owners_are_told_apart_and_other_subjects_are_not() -> None:
    train, holdout = people(400, 1), people(60, 2)
    good = subjects_c2st(train, holdout, people(400, 3), 0)
    bad = subjects_c2st(train, holdout, people(400, 3, dealt=True), 0)
    assert good["auc"] < 0.6 < 0.65 < bad["auc"]
    assert good["low"] < good["auc"] < good["high"]
    assert bad["giveaways"][0]["column"] == "visits: mean of x"
    assert good["real_halves"]["auc"] == pytest.approx(0.5, abs=0.12)
    assert good["holdout"]["subjects"] == 60
    assert subjects_c2st(train, holdout, people(400, 3), 0) == good


def test_too_few_subjects_give_no_figure() -> None:
    assert subjects_c2st(people(10, 1), people(5, 2), people(400, 3), 0) == {}


def test_copies_are_nearer_to_training_subjects_and_other_subjects_are_not() -> None:
    random = np.random.default_rng(3)

    def some(count: int) -> SubjectTable:
        values = random.normal(size=(count, 6))
        values[:, 0] = random.integers(0, 3, count)
        values[random.random(values.shape) < 0.1] = np.nan
        return SubjectTable(tuple("abcdef"), np.arange(6) == 0, values)

    train, holdout, fresh = some(600), some(200), some(500)
    found = subjects_closeness(train, holdout, fresh, 1)
    assert abs(found["share"] - 0.5) < 3 * found["error"] and found["copies"] == 0.0
    found = subjects_closeness(train, holdout, train.take(np.arange(300)), 1)
    assert found["share"] > 0.6 and found["copies"] > 0.9
    assert subjects_closeness(train, some(10), fresh, 1) == {}
