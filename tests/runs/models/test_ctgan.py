"""CTGAN and CopulaGAN: the ctgan package's networks and losses to 1e-5, and rows that depend on their number alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables import mixed_table
from tests.tables.deep import fit, prepare

from shardsynth.errors import ModelError
from shardsynth.models.ctgan.model import DeepModel

SMALL = {
    "epochs": 2,
    "batch_size": 100,
    "generator_dim": [16, 16],
    "discriminator_dim": [16],
    "embedding_dim": 8,
    "normalisation_rows": 2000,
}


@pytest.fixture(scope="module")
def mixed() -> pa.Table:
    return mixed_table(600)


@pytest.fixture(scope="module")
def model(mixed: pa.Table) -> DeepModel:
    return fit("ctgan", prepare(mixed, {"patient": "id"}), SMALL)


def test_drawn_batches_have_the_schema_and_only_the_values_of_the_table(model: DeepModel, mixed: pa.Table) -> None:
    drawn = model.draw(0, 0, 1000)
    assert drawn.schema.equals(mixed.schema, check_metadata=True)
    drawn.validate(full=True)
    for name in ("stage", "sex", "smoker", "mutated", "site"):
        known = set(mixed[name].to_pylist())
        assert set(drawn[name].to_pylist()) <= known, name
    assert drawn["empty"].null_count == 1000
    assert len(set(drawn["patient"].to_pylist())) == 1000
    assert drawn["age"].null_count > 0 and drawn["born"].null_count == 0
    low, high = pc.min_max(mixed["age"]).as_py().values()
    lowest, highest = pc.min_max(drawn["age"]).as_py().values()
    assert lowest >= 0 and highest <= high + (high - low), "tails go beyond the real range, but not below zero"


def test_a_row_depends_on_its_number_alone(model: DeepModel) -> None:
    whole = model.draw(7, 0, 10_000)
    for splits in ([0, 1, 999, 1000, 10_000], [0, 4095, 4097, 8193, 10_000]):
        parts = [model.draw(7, a, b - a) for a, b in zip(splits, splits[1:])]
        assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))
    assert model.with_threads(2).draw(7, 0, 10_000).equals(whole)
    assert model.draw(7, 5000, 10).equals(whole.slice(5000, 10))
    assert not model.draw(8, 0, 100).equals(whole.slice(0, 100))


def test_a_saved_model_draws_the_same_rows(model: DeepModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    loaded = DeepModel.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert loaded.draw(1, 0, 500).equals(model.draw(1, 0, 500))
    (tmp_path / "a" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot be read; it is damaged"):
        DeepModel.load(tmp_path / "a")


@pytest.mark.parametrize("options", [{}, {"default_distribution": "beta"}])
def test_copulagan_learns_and_draws(mixed: pa.Table, options: dict) -> None:
    drawn = fit("copulagan", prepare(mixed, {"patient": "id"}), {**SMALL, **options}).draw(0, 0, 300)
    assert drawn.schema.equals(mixed.schema, check_metadata=True)
    assert 10 < pc.mean(drawn["dose"]).as_py() < 100


def test_true_and_log_frequencies(mixed: pa.Table) -> None:
    rare = pa.table({"flag": ["a"] * 950 + ["b"] * 50, "x": np.random.default_rng(0).normal(size=1000)})
    shares = []
    for condvec in ("true", "log"):
        model = fit("ctgan", prepare(rare), {**SMALL, "condvec": condvec})
        shares.append(np.diff(model.sampler.cdf, prepend=0.0)[1])
    assert abs(shares[0] - 0.05) < 1e-9 and 0.3 < shares[1] < 0.45


@pytest.mark.parametrize("table", [
    pa.table({"x": pa.array([1.5, None, float("nan"), 2.5] * 20)}),  # no category: no conditions
    pa.table({"c": pa.array(["a", "b", None, "b"] * 20)}),  # no number
    pa.table({"one": pa.array([7] * 80, pa.int8()), "c": pa.array(["a", "b"] * 40)}),  # a constant
    pa.table({"x": pa.array(np.arange(50.0)), "c": pa.array(["a", "b"] * 25)}),  # fewer rows than a batch
])  # fmt: skip
def test_odd_tables(table: pa.Table) -> None:
    drawn = fit("ctgan", prepare(table), {**SMALL, "batch_size": 500}).draw(0, 0, 200)
    assert drawn.schema.equals(table.schema, check_metadata=True)
    for name in table.column_names:
        assert (drawn[name].null_count > 0) == (table[name].null_count > 0)
    if "one" in table.column_names:
        assert set(drawn["one"].to_pylist()) == {7}


def test_missing_that_was_nan_stays_nan() -> None:
    table = pa.table({"x": pa.array([1.5, float("nan"), 2.5, 3.5] * 30)})
    drawn = fit("ctgan", prepare(table), SMALL).draw(0, 0, 400)
    assert drawn["x"].null_count == 0
    assert 0 < pc.sum(pc.is_nan(drawn["x"])).as_py() < 400
