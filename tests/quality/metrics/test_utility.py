"""Utility, detection and survival on planted models; Kaplan-Meier by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.planted import Planted, planted

from shardsynth.metrics.detection import detection
from shardsynth.metrics.utility import utility

TARGETS = {"adult": "income", "mds": "risk"}


@pytest.fixture(scope="module", params=TARGETS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tables(kind: str) -> Planted:
    return planted(kind, 1500, 600)


def test_independent_columns_are_useless(kind: str, tables: Planted) -> None:
    found = utility(tables.coder, TARGETS[kind], tables.train, tables.holdout, tables.independent, 0)
    assert found["train_real"] > 0.75
    assert abs(found["train_synthetic"] - found["guessing"]) < 0.12
    assert found["gap_low"] > 0.1


def test_real_rows_are_as_useful_and_agree_on_what_matters(kind: str, tables: Planted) -> None:
    found = utility(tables.coder, TARGETS[kind], tables.train, tables.holdout, tables.fresh, 0)
    assert abs(found["gap"]) < 0.03 and found["gap_low"] < 0.02
    assert found["importance"]["columns"][0]["synthetic"] > 0.02
    assert found["importance"]["spearman"] > 0.3


def test_numbers_are_predicted_too_and_ids_are_not(tables: Planted) -> None:
    found = utility(tables.coder, "age", tables.train, tables.holdout, tables.fresh, 0)
    assert found["metric"] == "R2" and found["guessing"] == 0.0
    assert utility(tables.coder, "no such column", tables.train, tables.holdout, tables.fresh, 0) == {}


def test_a_target_of_one_class_is_guessing() -> None:
    tables = planted("adult", 500, 200)
    one = tables.train.filter(pa.compute.equal(tables.train["income"].cast(pa.string()), "low"))
    found = utility(tables.coder, "income", tables.train, tables.holdout, one, 0)
    assert found["train_synthetic"] == 0.5 < found["train_real"]


def test_independent_columns_are_detected_and_real_rows_are_not(tables: Planted) -> None:
    found = detection(tables.coder, tables.train, tables.holdout, tables.independent, 0)
    assert found["low"] > 0.7 and found["giveaways"][0]["drop"] > 0.05
    assert found["holdout"]["low"] < 0.5 < found["holdout"]["high"]
    same = detection(tables.coder, tables.train, tables.holdout, tables.fresh, 0)
    assert same["low"] < 0.5
    assert same["at_holdout_rows"]["rows"] == same["holdout"]["rows"] == 600


def test_the_column_that_gives_them_away_is_named() -> None:
    tables = planted("adult", 2000, 800)
    at = tables.fresh.schema.get_field_index("weight")
    rounded = pa.array(np.asarray(tables.fresh["weight"]) // 100_000 * 100_000, pa.int32())
    found = detection(tables.coder, tables.train, tables.holdout, tables.fresh.set_column(at, "weight", rounded), 0)
    assert found["auc"] > 0.9 and found["giveaways"][0]["column"] == "weight"


def test_the_same_rows_give_the_same_figures(tables: Planted) -> None:
    first, second = (detection(tables.coder, tables.train, tables.holdout, tables.fresh, 3) for _ in range(2))
    assert first == second
