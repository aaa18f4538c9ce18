"""Rows of a deep model under conditions: all meet them, each depends on its number alone, and hopeless ones end."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables import mixed_table
from tests.tables.autoregressive import given
from tests.tables.deep import fit, prepare

from shardsynth.errors import ConditionError
from shardsynth.models.ctgan.conditions import CHUNK
from shardsynth.models.ctgan.fit import fit_deep
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.sampling.conditions import parse_conditions

GAN = {"epochs": 2, "batch_size": 100, "generator_dim": [16], "discriminator_dim": [16], "embedding_dim": 8}
VAE = {"epochs": 20, "batch_size": 100, "compress_dims": [32], "decompress_dims": [32], "embedding_dim": 16}


@pytest.fixture(scope="module")
def gan() -> DeepModel:
    return fit("ctgan", prepare(mixed_table(600), {"patient": "id"}), {**GAN, "normalisation_rows": 2000})


@pytest.fixture(scope="module")
def vae() -> DeepModel:
    return fit("tvae", prepare(mixed_table(600), {"patient": "id"}), VAE)


@pytest.fixture(params=["gan", "vae"])
def model(request: pytest.FixtureRequest) -> DeepModel:
    found: DeepModel = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("where", "met"), [
    ({"sex": "F"}, lambda t: pc.equal(t["sex"].dictionary_decode(), "F")),
    ({"stage": None}, lambda t: t["stage"].is_null()),
    ({"stage": ["I", "III"], "smoker": True}, lambda t: pc.and_(pc.is_in(t["stage"], pa.array(["I", "III"])), t["smoker"])),
    ('age >= 60 and age < 70', lambda t: pc.and_(pc.greater_equal(t["age"], 60), pc.less(t["age"], 70))),
    ("dose > 20.5 and notnull(marker)", lambda t: pc.and_(pc.greater(t["dose"], 20.5), t["marker"].is_valid())),
    ("isnull(marker)", lambda t: t["marker"].is_null()),
    ('born < "1965-01-01"', lambda t: pc.less(t["born"], pa.scalar(dt.date(1965, 1, 1)))),
    ('site == "north" and isnull(empty)', lambda t: t["empty"].is_null()),
])  # fmt: skip
def test_every_row_meets_the_conditions(model: DeepModel, where, met) -> None:
    drawn = model.draw(0, 0, 700, parse_conditions(where))
    assert drawn.num_rows == 700 and drawn.schema.equals(model.schema, check_metadata=True)
    passed = met(drawn)
    assert passed.null_count == 0 and pc.all(passed).as_py()
    assert len(set(drawn["patient"].to_pylist())) == 700


def test_rejected_rows_are_those_of_a_filtered_sample(vae: DeepModel) -> None:
    plain = pa.table(vae.draw(0, 0, 60_000).to_pydict())
    kept = plain.filter(pc.equal(plain["sex"], "M"))
    drawn = vae.draw(1, 0, 20_000, parse_conditions({"sex": "M"}))
    for name in ("stage", "mutated", "smoker"):
        for value in set(plain[name].to_pylist()):
            shares = [np.mean([v == value for v in t[name].to_pylist()]) for t in (kept, drawn)]
            assert abs(shares[0] - shares[1]) < 4 * np.sqrt(0.25 / 20_000 + 0.25 / len(kept)), (name, value)
    assert abs(pc.mean(kept["dose"]).as_py() - pc.mean(drawn["dose"]).as_py()) < 0.05 * pc.stddev(kept["dose"]).as_py()


def test_the_condition_vector_makes_a_rare_category_likelier_than_it_is() -> None:
    rng = np.random.default_rng(0)
    rare = rng.random(3000) < 0.03
    table = pa.table({"flag": np.where(rare, "rare", "usual"), "x": rng.normal(size=3000) + 4 * rare})
    model = fit("ctgan", prepare(table), {**GAN, "epochs": 40, "generator_dim": [64], "normalisation_rows": 2000})
    steered = model.prepare(parse_conditions({"flag": "rare"}))
    assert steered.flat is not None
    assert steered.rate > 0.3  # without the vector: about 0.03
    model.draw(0, 0, 500, steered)
    counts = steered.acceptance()
    assert abs(counts["accepted"] / counts["proposals"] - steered.rate) < 0.1
    assert steered.acceptance() == {"proposals": 0, "accepted": 0}


def test_a_row_depends_on_its_number_alone(model: DeepModel) -> None:
    conditions = parse_conditions("age >= 55")
    n = CHUNK + 3000
    whole = model.draw(5, 0, n, conditions)
    for splits in ([0, 1, 5000, CHUNK - 1, CHUNK + 1, n], [0, 2, n]):
        parts = [model.draw(5, a, b - a, conditions) for a, b in zip(splits, splits[1:])]
        assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))
    assert model.with_threads(2).draw(5, 0, n, conditions).equals(whole)
    assert not model.draw(6, 0, 100, conditions).equals(whole.slice(0, 100))


@pytest.mark.parametrize(("where", "message"), [
    ("marker == 1.2345", r"marker == 1.2345: of 262,144 rows that 'ctgan' \(ctgan\) proposed, none meets this"),
    ('sexe == "F"', "no column 'sexe'; did you mean 'sex'"),
    ('sex == "W"', "no category 'W'"),
    ("age > 200", "leaves no value"),
    ('patient == "P-1"', "made from the row number"),
    ("empty > 3", "always missing"),
    ("isnull(born)", "never missing"),
    ("isnull(age) and age > 3", "cannot be missing and have a value"),
    ('site == "south"', "no category 'south'"),
])  # fmt: skip
def test_what_cannot_be_met_is_said(gan: DeepModel, where: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        gan.draw(0, 0, 10, parse_conditions(where))


def test_folded_categories_can_be_asked_for() -> None:
    rng = np.random.default_rng(0)
    weight = 1.0 / np.arange(1, 61)
    names = np.array([f"c{i:02d}" for i in range(60)])
    table = pa.table({"c": rng.choice(names, 6000, p=weight / weight.sum()), "x": rng.normal(size=6000)})
    model = fit("ctgan", prepare(table), {**GAN, "max_categories": 10, "normalisation_rows": 2000})
    drawn = model.draw(0, 0, 50, parse_conditions({"c": "c30"}))
    assert set(drawn["c"].to_pylist()) == {"c30"}


@pytest.mark.parametrize("family", ["ctgan", "tvae"])
def test_computed_columns_are_computed(family, tmp_path):
    """Also under a condition on one, and in a loaded model."""
    rng = np.random.default_rng(2)
    rows = 1500
    start = np.datetime64("2020-01-01", "s") + 3600 * rng.integers(0, 9000, rows)
    hours = rng.integers(1, 40, rows)
    base, bonus = rng.integers(10, 200, rows) * 10, rng.choice([0, 50, 100, 400], rows)
    gone = rng.random(rows) < 0.2
    table = pa.table(
        {
            "start": pa.array(start, pa.timestamp("s")),
            "hours": pa.array(hours, mask=gone),
            "end": pa.array(start + 3600 * hours, pa.timestamp("s"), mask=gone),
            "base": base,
            "bonus": bonus,
            "pay": base + bonus,
            "group": np.where(base + bonus > 1500, "high", np.where(base + bonus > 700, "middle", "low")),
            "free": rng.normal(size=rows),
        }
    )
    of = given(
        prepare(table),
        {"epochs": 1, "batch_size": 100, "compress_dims": [16], "decompress_dims": [16]}
        if family == "tvae"
        else {
            "epochs": 1,
            "batch_size": 100,
            "generator_dim": [16],
            "discriminator_dim": [16],
            "normalisation_rows": 500,
        },
    )
    model = fit_deep(family, of)
    assert {relation.name for relation in model.coding.relations} >= {"pay", "group"}
    model.save(tmp_path)
    loaded = DeepModel.load(tmp_path)
    for where in (None, "pay > 600", "group == 'middle'", "notnull(hours)"):
        conditions = None if where is None else parse_conditions(where)
        batch = loaded.draw(1, 0, 3000, conditions)
        assert batch.equals(model.draw(1, 0, 3000, conditions))
        drawn = batch.to_pandas()
        assert (drawn["pay"] == drawn["base"] + drawn["bonus"]).all()
        assert (
            drawn["group"] == np.where(drawn["pay"] > 1500, "high", np.where(drawn["pay"] > 700, "middle", "low"))
        ).mean() > 0.99
        both = drawn.dropna(subset=["hours", "end"])
        assert len(both) and (both["end"] - both["start"] == pd.to_timedelta(both["hours"], unit="h")).all()
        assert (drawn["hours"].isna() == drawn["end"].isna()).all()
        if where == "pay > 600":
            assert (drawn["pay"] > 600).all()
        if where == "group == 'middle'":
            assert set(drawn["group"]) == {"middle"}
