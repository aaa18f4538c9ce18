"""Rows completed by a copula: given values stay, the others are distributed as given them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.copula_by_hand import adult_copula

from shardsynth.errors import ConditionError, InputError
from shardsynth.models.columns.known import UnknownCategory
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


def test_a_category_that_was_not_learned_is_kept_and_named(adult):
    sex = pa.array(["Female", "secret"]).dictionary_encode().cast(adult.schema.field("sex").type)
    with pytest.warns(UnknownCategory, match=r"column 'sex': 1 row.* \(row 1 of") as told:
        completed = adult.complete(pa.table({"sex": sex}), 0)
    assert completed["sex"].to_pylist() == ["Female", "secret"] and not completed["age"].null_count
    assert "secret" not in str(told[0].message)


def test_nearly_full_rows_are_completed(adult):
    rows = pa.Table.from_batches([adult.draw(7, 0, 300)])
    known = rows.drop_columns(["age"])
    completed = adult.complete(known, 1)  # each row is another box of thirteen latents
    whole = [name for name in known.column_names if not known[name].null_count]
    assert len(whole) > 9 and completed.select(whole).to_pylist() == known.select(whole).to_pylist()
    # The ages follow from the other columns: they are nearer to the rows' own than those of other rows are.
    ages, own = (table["age"].to_numpy().astype(float) for table in (completed, rows))
    assert np.abs(ages - own).mean() < 0.9 * np.abs(np.roll(ages, 1) - own).mean()


def test_what_cannot_be_completed_is_explained(adult, known):
    with pytest.raises(InputError, match=r"'ages' is not one of the model's; did you mean 'age'"):
        adult.complete(known.rename_columns(["ages", *KNOWN[1:]]), 0)
    with pytest.raises(InputError, match="'age' is of type int64; the model has int8"):
        adult.complete(known.set_column(0, "age", known["age"].cast(pa.int64())), 0)
    with pytest.raises(ConditionError, match="'education-num' is computed .* give 'education' too"):
        adult.complete(pa.table({"education-num": pa.array([9], pa.int8())}), 0)
