"""Rows under conditions: every row meets them, and they are distributed as the rows of a large sample that do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.tables.copula_by_hand import adult_copula, distance, drawn

from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions

ROWS = 60_000


@pytest.fixture(scope="module")
def adult(adult_dir) -> GaussianCopula:
    return adult_copula(adult_dir)


@pytest.fixture(scope="module")
def large(adult) -> pd.DataFrame:
    """Two million unconditional rows, other ones than those under test."""
    return pa.Table.from_batches([adult.draw(99, a, 250_000) for a in range(0, 2_000_000, 250_000)]).to_pandas()


CASES = [
    ({"sex": "Female"}, "sex == 'Female'"),
    ("`capital-gain` > 5000", "`capital-gain` > 5000"),
    ('sex == "Female" and age >= 60 and race != "White"', "sex == 'Female' and age >= 60 and race != 'White'"),
    (
        'fnlwgt >= 400000 and occupation in ["Sales", "Tech-support", "Craft-repair"]',
        "fnlwgt >= 400000 and occupation in ['Sales', 'Tech-support', 'Craft-repair']",
    ),
    ("isnull(occupation) and age < 30", "occupation.isnull() and age < 30"),
    ("notnull(occupation) and 200000 < fnlwgt < 201500", "occupation.notnull() and 200000 < fnlwgt < 201500"),
    ("`education-num` >= 13 and `hours-per-week` > 50", "`education-num` >= 13 and `hours-per-week` > 50"),
    ('education in ["Bachelors", "HS-grad"] and `education-num` < 13', "education == 'HS-grad'"),
    ("age in [20, 30, 70] and fnlwgt not in [200000]", "age in [20, 30, 70] and fnlwgt != 200000"),
]


@pytest.mark.parametrize(("where", "query"), CASES, ids=[query for _, query in CASES])
def test_rows_are_those_of_a_filtered_sample(adult, large, where, query):
    expected = large.query(query, engine="python")
    found = drawn(adult, where)
    assert len(found.query(query, engine="python")) == ROWS
    tolerance = 0.008 + 2.2 / np.sqrt(len(expected))
    for name in found:
        assert distance(found[name], expected[name]) < tolerance, name
    numbers = ["age", "fnlwgt", "education-num", "hours-per-week"]
    varied = [n for n in numbers if expected[n].nunique() > 1]
    # Pairs: correlations of ranks.
    gap = found[varied].rank().corr() - expected[varied].rank().corr()
    assert np.abs(gap.to_numpy()).max() < 0.02 + 4 / np.sqrt(len(expected))


def test_acceptance_and_probability_are_told(adult, large):
    prepared = adult.prepare(parse_conditions('sex == "Female" and age >= 60 and race != "White"'))
    assert prepared.probability is None
    adult.draw(0, 0, 20_000, prepared)
    share = len(large.query("sex == 'Female' and age >= 60 and race != 'White'")) / len(large)
    assert abs(prepared.probability / share - 1) < 0.08
    counts = prepared.acceptance()
    assert counts["accepted"] == 20_000 <= counts["proposals"] < 25_000
    assert prepared.acceptance() == {"proposals": 0, "accepted": 0}
    assert adult.prepare(prepared) is prepared
