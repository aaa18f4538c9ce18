"""The literature's figures (benchmarks/suite.py) on tables on which the answer is known."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from tests.tools import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import suite  # noqa: E402

RNG = np.random.default_rng(0)


def test_equal_distributions_have_full_precision_and_half_the_neighbours() -> None:
    """A real row's nearest synthetic row is nearer than its nearest real one in half of the cases, by symmetry."""
    real, other = RNG.normal(size=(2, 1_500, 4))
    precision, recall = suite.precision_recall(real, other)
    assert precision > 0.97
    assert recall == pytest.approx(0.5, abs=0.06)


def test_a_collapsed_model_loses_recall_and_a_wild_one_precision() -> None:
    real = RNG.normal(size=(1_000, 4))
    collapsed = suite.precision_recall(real, 0.05 * RNG.normal(size=(1_000, 4)))
    wild = suite.precision_recall(real, 5 * RNG.normal(size=(1_000, 4)))
    assert collapsed[1] < 0.1 and collapsed[0] < 0.6
    assert wild[0] < 0.2


def test_what_hides_from_a_classifier() -> None:
    real, other = RNG.normal(size=(2, 600, 3))
    for name, classifier in suite.classifiers().items():
        assert suite.hidden(real, other, classifier, 0) > 0.8, name
        assert suite.hidden(real, other + 4, classifier, 0) < 0.05, name


def test_tables_become_matrices_and_gaps_a_column() -> None:
    real = pa.table({"x": [0.0, 10.0, None, 5.0], "c": pa.array(["a", "b", "a", None]).dictionary_encode()})
    other = pa.table({"x": [20.0, None], "c": pa.array(["c", "a"]).dictionary_encode()})
    left, right = suite.matrices(real, other, {"c"})
    assert left.shape == (4, 6) and right.shape == (2, 6)  # a number, its gap, and a, b, c, none
    assert left[:, 0].tolist() == [0.0, 1.0, 0.5, 0.5] and right[:, 0].tolist() == [2.0, 0.5]
    assert left[:, 1].tolist() == [0, 0, 1, 0] and (left[:, 2:].sum(axis=1) == 1).all()


def test_a_split_is_a_tenth_and_all_rows_are_in_it() -> None:
    table = pa.table({"i": np.arange(1_003)})
    train, holdout = suite.split(table, 1)
    assert (train.num_rows, holdout.num_rows) == (903, 100)
    assert sorted(train["i"].to_pylist() + holdout["i"].to_pylist()) == list(range(1_003))
    assert suite.split(table, 2)[1] != holdout


def test_kinds_of_columns_are_the_papers() -> None:
    found = {"0": {"sdtype": "categorical"}, "10": {"sdtype": "ordinal"}, "1": {"sdtype": "numerical", "digits": 2}}
    metadata = {"tables": {"magic": {"columns": found}}, "METADATA_SPEC_VERSION": "V2"}
    columns = suite.with_kinds(metadata, "magic")["tables"]["magic"]["columns"]
    assert columns == {"0": {"sdtype": "numerical"}, "10": {"sdtype": "categorical"}, "1": found["1"]}
    assert suite.with_kinds(metadata, "another") == metadata


def test_published_figures_name_their_source_and_stand_in_the_table() -> None:
    one = {"shapes": 1.0, "trends": 2.0, "fit": 3.0}
    lines = suite.lines({("suite", "magic", "mine"): {0: one, 1: {**one, "trends": 4.0}}}, "magic")
    assert any(line.startswith("mine ") and " 3.00 " in line for line in lines)
    assert any("TabSyn (arXiv" in line and " 0.82 " in line for line in lines)
    assert sum("seed" in line for line in lines[1:]) == 2
