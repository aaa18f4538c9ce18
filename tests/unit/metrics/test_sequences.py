"""Rows of an owner one after the other, on planted tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from shardsynth.metrics.sequences import Sequences, similarity

NAMES, CATEGORICAL = ("level", "drug"), np.array([False, True])


def walk(owners: int, keep: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of owners: a number and a category that stay as they were with a probability, and a day."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 6, owners)
    owner = np.repeat(np.arange(owners), counts)
    fresh = np.stack([random.normal(size=len(owner)), random.integers(0, 4, len(owner))], axis=1)
    values = fresh.copy()
    for row in range(1, len(owner)):
        if owner[row] == owner[row - 1]:
            stays = random.random(2) < keep
            values[row] = np.where(stays, values[row - 1], fresh[row])
    return values, owner, np.cumsum(random.integers(0, 9, len(owner))).astype(float)


def counted(owners: int, keep: float, seed: int) -> Sequences:
    values, owner, day = walk(owners, keep, seed)
    return Sequences.of(NAMES, CATEGORICAL, values, owner, owners, day)


def test_the_same_process_is_alike_and_another_is_not() -> None:
    real = counted(4_000, 0.8, 1)
    same, shuffled = similarity(real, counted(4_000, 0.8, 2)), similarity(real, counted(4_000, 0.0, 3))
    assert min(same["columns"].values()) > 0.97
    assert same["rows_per_owner"] > 0.97 and same["gaps"] > 0.97
    assert shuffled["columns"]["level"] == pytest.approx(1 - 0.5 * 0.8, abs=0.03)
    assert shuffled["columns"]["drug"] < 0.5
    assert shuffled["rows_per_owner"] > 0.97  # single tables and counts cannot see it


def test_parts_add_up_whatever_the_cut() -> None:
    values, owner, day = walk(300, 0.5, 4)
    whole = Sequences.of(NAMES, CATEGORICAL, values, owner, 300, day)
    cut = int(np.searchsorted(owner, 120))
    first = Sequences.of(NAMES, CATEGORICAL, values[:cut], owner[:cut], 120, day[:cut])
    second = Sequences.of(NAMES, CATEGORICAL, values[cut:], owner[cut:] - 120, 180, day[cut:])
    both = Sequences.from_members(first.merge(second).members())
    assert both.owners.tolist() == whole.owners.tolist()
    assert both.pairs["drug"].tolist() == whole.pairs["drug"].tolist()
    assert np.allclose(both.sums["level"], whole.sums["level"])
    assert sorted(both.gaps) == sorted(whole.gaps)
    assert similarity(whole, both)["one_row_apart"] == pytest.approx(1.0)


def test_owners_without_rows_count_and_what_is_missing_does_not() -> None:
    values = np.array([[1.0, np.nan], [np.nan, 2.0], [3.0, 2.0]])
    found = Sequences.of(NAMES, CATEGORICAL, values, np.array([0, 0, 0]), 4, np.array([1.0, np.nan, 5.0]))
    assert found.owners.tolist() == [3, 0, 0, 1]
    assert found.sums["level"][0] == 0 and len(found.gaps) == 0
    assert found.pairs["drug"][1].tolist() == [1, 1]  # missing, then a drug; the drug again


def test_nothing_to_compare_has_no_figure() -> None:
    none = Sequences.of(NAMES, CATEGORICAL, np.zeros((0, 2)), np.zeros(0, np.int64), 0, None)
    figures = similarity(none, none)
    assert figures["one_row_apart"] is None and figures["gaps"] is None and figures["columns"] == {}
