"""Rows completed by a copula: given values stay, the others are distributed as given them."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.copula_by_hand import adult_copula

from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions

ROWS = 100_000
KNOWN = ["age", "sex", "occupation", "fnlwgt", "capital-gain"]


@pytest.fixture(scope="module")
def adult(adult_dir) -> GaussianCopula:
    return adult_copula(adult_dir)


@pytest.fixture(scope="module")
def known(adult) -> pa.Table:
    """Some columns of rows of the model's own; occupation has gaps."""
    return pa.Table.from_batches([adult.draw(7, 0, ROWS)]).select(KNOWN)


@pytest.fixture(scope="module")
def completed(adult, known) -> pa.Table:
    return adult.complete(known, seed=1)


def binned(one: pd.Series, other: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    both = pd.concat([one, other], ignore_index=True)
    if both.dtype.kind in "iuf" and both.nunique() > 6:
        both = pd.qcut(both, 6, duplicates="drop")
    codes = pd.factorize(both.astype(str))[0]
    return codes[: len(one)], codes[len(one) :]


def pair_distance(left: pd.DataFrame, right: pd.DataFrame, a: str, b: str) -> float:
    """Total variation between the joint distributions of two columns."""
    (a1, a2), (b1, b2) = binned(left[a], right[a]), binned(left[b], right[b])
    one, other = a1 * 100 + b1, a2 * 100 + b2
    size = max(one.max(), other.max()) + 1
    shares = [np.bincount(x, minlength=size) / len(x) for x in (one, other)]
    return 0.5 * float(np.abs(shares[0] - shares[1]).sum())


def test_the_whole_is_distributed_as_the_models_own_rows(adult, known, completed):
    """What is given comes from the model, so that what is completed must, too: each pair, given or not."""
    rows = pc.is_valid(known["occupation"])
    kept = completed.filter(rows).to_pandas()
    other = pa.Table.from_batches([adult.draw(99, 0, 2 * ROWS)])
    other = other.filter(pc.is_valid(other["occupation"])).to_pandas()
    for a, b in itertools.combinations(kept, 2):
        assert pair_distance(kept, other, a, b) < 0.022, (a, b)


def test_equal_rows_are_those_of_the_condition(adult):
    where = 'sex == "Female" and education == "HS-grad" and age in [30]'
    schema = pa.schema([adult.schema.field(name) for name in ("sex", "education", "age")])
    rows = pa.Table.from_pylist([{"sex": "Female", "education": "HS-grad", "age": 30}], schema).take([0] * 150_000)
    found = adult.complete(rows, seed=3).to_pandas()
    wanted = adult.draw(4, 0, 150_000, parse_conditions(where)).to_pandas()
    assert (found["education-num"] == 9).all()
    for a, b in (("marital-status", "hours-per-week"), ("income", "fnlwgt"), ("relationship", "occupation")):
        assert pair_distance(found, wanted, a, b) < 0.022
