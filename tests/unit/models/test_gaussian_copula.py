"""The native copula as a sampler: exact schema, right distributions, the same bytes however rows are asked for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables.copula import simple_fit
from tests.tables.copula_by_hand import adult_copula, atoms, categories, independent, stream, zoo

from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent, Marginal
from shardsynth.models.columns.relations import FlagRelation, Operand, SumRelation
from shardsynth.models.copula.model import GaussianCopula


@pytest.fixture(scope="module")
def adult_model(adult_dir) -> GaussianCopula:
    return adult_copula(adult_dir)


@pytest.fixture(scope="module")
def adult(adult_dir) -> pa.Table:
    return ds.dataset(adult_dir).to_table().combine_chunks()


# ---------------------------------------------------------------- schema


def test_every_type_comes_out_as_it_went_in(tmp_path):
    columns, schema, formats = zoo()
    model = independent(columns, schema, formats=formats)
    model.save(tmp_path)
    batch = GaussianCopula.load(tmp_path).draw(3, 10, 20_000)
    batch.validate(full=True)
    assert batch.schema.equals(schema, check_metadata=True)
    assert stream(batch) == stream(model.draw(3, 10, 20_000))
    for column, array in zip(columns, batch.columns):
        if column.treatment == "empty":
            assert array.null_count == len(array)
            continue
        nan = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False).mean()
        assert abs(nan - column.marginal.p_missing) < 0.02, column.name
        assert (array.null_count == 0) == (column.emit_nan or not column.marginal.p_missing), column.name
        distinct = set(array.to_pylist()) - {None}
        if column.categories is not None:
            assert distinct == set(column.categories.to_pylist()), column.name
        elif len(column.marginal.lo) > 1:
            assert distinct == {1, 5, 7}, column.name


def test_grids_are_kept():
    columns, schema, formats = zoo()
    batch = independent(columns, schema, formats=formats).draw(0, 0, 30_000)
    whole = batch.column("1 int8").to_numpy()
    assert set(whole.tolist()) == set(range(101))
    assert np.abs(np.bincount(whole) / len(whole) * 101 - 1).max() < 0.4
    assert set(batch.column("20 double").drop_null().to_pylist()) == {round(i * 0.1, 1) for i in range(91)}
    rome = batch.column("26 timestamp[ms, tz=Europe/Rome]").drop_null().cast(pa.int64()).to_numpy()
    assert (rome % 100 == 0).all() and rome.min() == 1000 and rome.max() == 10_000
    assert batch.column("22 decimal128(10, 2)").drop_null()[0].as_py().as_tuple().exponent == -2


def test_a_fit_of_another_table_is_refused(adult, adult_model):
    fit = simple_fit(adult.select(["age", "sex"]))
    with pytest.raises(ModelError, match="columns of the schema"):
        GaussianCopula.from_fit(fit, adult.schema)


# ---------------------------------------------------------------- distributions


def test_adult_margins_and_pairs_are_those_of_the_fit(adult, adult_model):
    batch = adult_model.draw(0, 0, 400_000)
    assert batch.schema.equals(adult.schema, check_metadata=True)
    for column in adult_model.columns:
        if column.treatment != "latent" or column.categories is None:
            continue
        values = batch.column(column.name)
        codes = values.indices.drop_null().to_numpy()
        counts = np.bincount(codes, minlength=len(column.categories)) / len(codes)
        wanted = np.zeros(len(column.categories))
        wanted[column.marginal.lo.astype(int)] = column.marginal.probability
        assert 0.5 * np.abs(counts - wanted).sum() < 0.006
        assert abs(values.null_count / 400_000 - column.marginal.p_missing) < 0.002
    for name in ("age", "fnlwgt", "hours-per-week"):
        real, drawn = np.sort(adult.column(name).to_numpy()), np.sort(batch.column(name).to_numpy())
        grid = np.linspace(0, 1, 999)
        assert (
            np.abs(
                np.searchsorted(drawn, np.quantile(real, grid)) / 4e5
                - np.searchsorted(real, np.quantile(real, grid)) / len(real)
            ).max()
            < 0.006
        )


def test_latents_have_the_correlations_of_the_fit(adult, adult_model):
    """Tetrachoric check: P(both above their medians) = 1/4 + arcsin(r) / 2 pi."""
    size = 5
    rng = np.random.default_rng(0)
    g = rng.normal(size=(size, size + 2))
    matrix = g @ g.T
    matrix /= np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    schema = pa.schema([(f"x{i}", pa.int8()) for i in range(size)])
    columns = [
        FittedColumn(f"x{i}", "category", "latent", categories([0.5, 0.5]), pa.array([0, 1], pa.int8()))
        for i in range(size)
    ]
    fit = CopulaFit(columns, [Latent("value", (i,)) for i in range(size)], matrix, [])
    batch = GaussianCopula.from_fit(fit, schema).draw(1, 0, 1_000_000)
    above = np.array([c.to_numpy() for c in batch.columns], float)
    both = above @ above.T / 1e6
    expected = 0.25 + np.arcsin(np.clip(matrix, -1, 1)) / (2 * np.pi)
    assert np.abs(both - expected).max() < 0.0025


def test_missing_values_share_their_rows_and_their_correlations():
    schema = pa.schema([("a", pa.int16()), ("b", pa.float32()), ("c", pa.int8())])
    columns = [
        FittedColumn("a", "number", "latent", atoms([1, 2], [0.5, 0.5], 0.2), precision=Precision("integer")),
        FittedColumn("b", "number", "latent", atoms([1, 2], [0.5, 0.5], 0.2)),
        FittedColumn("c", "category", "latent", categories([0.7, 0.3]), pa.array([0, 1], pa.int8())),
    ]
    latents = [Latent("value", (0,)), Latent("value", (1,)), Latent("value", (2,)), Latent("missing", (0, 1), 0.2)]
    matrix = np.eye(4)
    matrix[2, 3] = matrix[3, 2] = 0.6
    batch = GaussianCopula.from_fit(CopulaFit(columns, latents, matrix, []), schema).draw(0, 0, 300_000)
    missing = batch.column("a").is_null().to_numpy(zero_copy_only=False)
    assert np.array_equal(missing, batch.column("b").is_null().to_numpy(zero_copy_only=False))
    assert abs(missing.mean() - 0.2) < 0.004
    flag = batch.column("c").to_numpy()
    assert flag[missing].mean() > 0.55 > 0.3 > flag[~missing].mean()  # large latents mean missing


# ---------------------------------------------------------------- relations


def test_a_function_of_another_column_always_holds(adult, adult_model):
    batch = adult_model.draw(5, 0, 300_000)
    relation = adult_model.relations[0]
    assert relation.violations(batch) == 0
    assert len(batch.column("education-num").unique()) == 16


def test_flags_and_sums_hold_with_missing_parents():
    schema = pa.schema(
        [
            ("any", pa.int8()),
            ("one", pa.int8()),
            ("two", pa.int8()),
            ("sum", pa.float64()),
            ("p", pa.float64()),
            ("q", pa.int32()),
        ]
    )
    flag = pa.array([0, 1], pa.int8())
    flipped = categories([0.8, 0.2], 0.1)
    flipped = Marginal("category", flipped.probability, np.array([1.0, 0.0]), np.array([1.0, 0.0]), 0.1)
    tenth = Precision("decimal", digits=1)
    columns = [
        FittedColumn("any", "category", "relation", None, flag),
        FittedColumn("one", "category", "latent", categories([0.9, 0.1]), flag),
        FittedColumn("two", "category", "latent", flipped, flag),
        FittedColumn("sum", "number", "relation", None, precision=tenth),
        FittedColumn(
            "p", "number", "latent", Marginal("axis", np.ones(1), np.zeros(1), np.ones(1), 0.3), precision=tenth
        ),
        FittedColumn("q", "number", "latent", atoms([1, 2], [0.5, 0.5]), precision=Precision("integer")),
    ]
    values = (0, 1)
    relations = [
        FlagRelation(
            (Operand("one", values), Operand("two", values)),
            Operand("any", values),
            (1, 1, 1),
            (0, 0, 0),
            "or",
            "known",
        ),
        SumRelation((Operand("p"), Operand("q")), Operand("sum"), 1e-9, tenth, "any"),
    ]
    batch = independent(columns, schema, relations).draw(0, 0, 50_000)
    assert batch.schema.equals(schema)
    assert [relation.violations(batch) for relation in relations] == [0, 0]
    assert 0.2 < batch.column("sum").null_count / 50_000 < 0.4
    assert 0.05 < batch.column("any").null_count / 50_000 < 0.1
    assert set(batch.column("any").unique().to_pylist()) == {0, 1, None}


# ---------------------------------------------------------------- the same bytes


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5000), max_size=5), first=st.integers(0, 2**55), seed=st.integers(-(2**70), 2**70))
def test_any_split_gives_the_same_rows(adult_model, cuts, first, seed):
    edges = [0, *sorted(cuts), 5000]
    whole = adult_model.draw(seed, first, 5000)
    parts = [adult_model.draw(seed, first + a, b - a) for a, b in zip(edges, edges[1:])]
    assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))


def test_seeds_and_names_give_other_rows(adult, adult_model):
    from dataclasses import replace

    rows = adult_model.draw(0, 0, 100)
    assert not rows.equals(adult_model.draw(1, 0, 100))
    assert not rows.equals(adult_model.draw(0, 100, 100))
    assert not rows.equals(replace(adult_model, name="another").draw(0, 0, 100))
