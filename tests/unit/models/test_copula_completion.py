"""Rows completed by a copula: given values stay, the others are distributed as given them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.copula_by_hand import adult_copula

from shardsynth.errors import ConditionError, InputError
from shardsynth.models.copula.model import GaussianCopula

ROWS = 20_000
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


def test_given_values_stay_and_the_schema_is_the_models(adult, known, completed):
    assert completed.schema.equals(adult.schema, check_metadata=True)
    completed.validate(full=True)
    for name in KNOWN:
        given, found = (pc.cast(t[name], pa.string()) for t in (known, completed))
        assert pc.all(pc.fill_null(pc.equal(given, found), True)).as_py(), name
        assert completed[name].null_count == 0, name  # gaps in a given column are filled
    assert completed["workclass"].null_count > 0  # a column that was not given may be missing


def test_any_split_gives_the_same_rows(adult, known):
    whole = adult.complete(known.slice(0, 10_000), seed=1, first_row=500)
    parts = [adult.complete(known.slice(a, b - a), 1, 500 + a) for a, b in ((0, 1), (1, 5000), (5000, 10_000))]
    assert pa.concat_tables(parts).to_pylist() == whole.to_pylist()
    assert adult.complete(known.slice(0, 100), seed=2).to_pylist() != whole.slice(0, 100).to_pylist()


def test_what_cannot_be_completed_is_explained(adult, known):
    with pytest.raises(InputError, match=r"'ages' is not one of the model's; did you mean 'age'"):
        adult.complete(known.rename_columns(["ages", *KNOWN[1:]]), 0)
    with pytest.raises(InputError, match="'age' is of type int64; the model has int8"):
        adult.complete(known.set_column(0, "age", known["age"].cast(pa.int64())), 0)
    sex = pa.array(["Female", "secret"]).dictionary_encode().cast(adult.schema.field("sex").type)
    with pytest.raises(ConditionError, match="column 'sex', row 1: a category that the model did not learn") as error:
        adult.complete(pa.table({"sex": sex}), 0)
    assert "secret" not in str(error.value)
    with pytest.raises(ConditionError, match="'education-num' is computed .* give 'education' too"):
        adult.complete(pa.table({"education-num": pa.array([9], pa.int8())}), 0)
