"""Rare classes of a target in the autoregressive model: their values, how often they come, conditions, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.tables.autoregressive import fit
from tests.tables.deep import Prepared, prepare

from shardsynth.errors import ModelError
from shardsynth.models.autoregressive.model import AutoregressiveModel
from shardsynth.sampling.conditions import parse_conditions

ROWS, FRAUDS = 30_000, 90
SHORT = {"embedding": 16, "hidden": 16, "max_epochs": 2, "bins": 32}


def payments(seed: int = 5) -> pa.Table:
    """Frauds on 0.3 % of the rows: amounts of median 3,000 in place of 20, at night, mostly to XX, often without age."""
    rng = np.random.default_rng(seed)
    rare = np.zeros(ROWS, np.bool_)
    rare[rng.choice(ROWS, FRAUDS, replace=False)] = True
    amount = np.where(rare, rng.lognormal(np.log(3000), 0.5, ROWS), rng.lognormal(np.log(20), 1, ROWS)).round(2)
    known = rng.random(ROWS) < np.where(rare, 0.1, 0.9)
    return pa.table(
        {
            "amount": amount,
            "hour": np.where(rare, rng.integers(0, 6, ROWS), rng.integers(0, 24, ROWS)),
            "age": pa.array(np.where(known, rng.normal(50, 10, ROWS).round(), np.nan), from_pandas=True),
            "country": np.where(
                rng.random(ROWS) < np.where(rare, 0.7, 0.01), "XX", rng.choice(["DE", "FR", "US"], ROWS)
            ),
            "twice": amount * 2,
            "kind": np.where(rare, "fraud", rng.choice(["card", "cash"], ROWS, p=[0.7, 0.3])),
        }
    )


@pytest.fixture(scope="module")
def source() -> Prepared:
    return prepare(payments())


@pytest.fixture(scope="module")
def model(source: Prepared) -> AutoregressiveModel:
    return fit(source, SHORT, target="kind")


@pytest.fixture(scope="module")
def rows(model: AutoregressiveModel) -> pd.DataFrame:
    return model.draw(0, 0, 200_000).to_pandas()


def test_values_of_a_rare_class_survive(model: AutoregressiveModel, rows: pd.DataFrame, source: Prepared) -> None:
    real, frauds = payments().to_pandas().query("kind == 'fraud'"), rows[rows.kind == "fraud"]
    assert len(frauds) / len(rows) == pytest.approx(FRAUDS / ROWS, rel=0.15)
    for level in (0.1, 0.5, 0.9):
        assert frauds.amount.quantile(level) == pytest.approx(real.amount.quantile(level), rel=0.15)
    assert (frauds.hour < 6).mean() > 0.97
    assert (frauds.country == "XX").mean() == pytest.approx((real.country == "XX").mean(), abs=0.06)
    assert frauds.age.isna().mean() == pytest.approx(real.age.isna().mean(), abs=0.06)
    assert (rows.twice == rows.amount * 2).all()
    plain = fit(source, SHORT).draw(0, 0, 200_000).to_pandas().query("kind == 'fraud'")
    assert plain.amount.median() < 1_000  # what the training alone makes of them


def test_the_other_rows_stay_as_they_are(rows: pd.DataFrame) -> None:
    others, real = rows[rows.kind != "fraud"], payments().to_pandas().query("kind != 'fraud'")
    for level in (0.1, 0.5, 0.9):
        assert others.amount.quantile(level) == pytest.approx(real.amount.quantile(level), rel=0.05)
    assert (others.amount > 1_500).mean() < 1e-4
    assert others.hour.value_counts(normalize=True).sort_index().to_numpy() == pytest.approx([1 / 24] * 24, abs=0.004)
    assert (others.country == "XX").mean() == pytest.approx(0.01, abs=0.002)
    assert (others.kind == "card").mean() == pytest.approx(0.7, abs=0.01)


def test_conditions_and_completed_rows_know_the_class(model: AutoregressiveModel) -> None:
    drawn = model.draw(1, 0, 2_000, parse_conditions("kind == 'fraud'")).to_pandas()
    assert set(drawn.kind) == {"fraud"} and drawn.amount.median() == pytest.approx(3_000, rel=0.15)
    given = pa.table({"kind": ["fraud"] * 1_000 + ["card"] * 1_000})
    completed = model.complete(given, 1).to_pandas()
    assert completed.amount[:1_000].median() == pytest.approx(3_000, rel=0.15)
    assert completed.amount[1_000:].median() == pytest.approx(20, rel=0.15)
    large = model.draw(1, 0, 2_000, parse_conditions("amount > 2000")).to_pandas()
    assert large.amount.min() > 2_000 and (large.kind == "fraud").mean() > 0.98
    table = payments(9)
    found = np.asarray(model.complete(table.drop_columns(["kind"]), 1)["kind"]) == "fraud"
    wanted = np.asarray(table["kind"]) == "fraud"
    assert (found & wanted).sum() > 0.9 * FRAUDS and found.sum() < 1.5 * FRAUDS


def test_a_row_does_not_depend_on_the_range(model: AutoregressiveModel) -> None:
    whole = model.draw(3, 0, 9_000)
    for first, n in ((0, 1), (4_000, 3_000), (8_999, 1)):
        assert model.draw(3, first, n).equals(whole.slice(first, n))


def test_saved_and_loaded(model: AutoregressiveModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    loaded = AutoregressiveModel.load(tmp_path / "a")
    assert loaded.draw(1, 0, 5_000).equals(model.draw(1, 0, 5_000))
    loaded.save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    card = json.loads((tmp_path / "b" / "model.json").read_text())
    (tmp_path / "b" / "model.json").write_text(json.dumps({**card, "classes": [99]}))
    with pytest.raises(ModelError, match="classes: are not codes of the first learned column"):
        AutoregressiveModel.load(tmp_path / "b")


def test_a_class_of_few_persons_gets_nothing_of_its_own(source: Prepared) -> None:
    persons = np.arange(ROWS, dtype=np.uint64) * np.uint64(2**40)
    persons[np.asarray(source.table["kind"]) == "fraud"] %= np.uint64(2**42)  # the frauds are of four persons
    assert fit(source, {**SHORT, "max_epochs": 1}, target="kind", persons=lambda: persons).classes is None


def test_a_class_that_one_column_tells_exactly() -> None:
    """Frauds are the largest amounts: they are learned as a class all the same, which countries depend on, too."""
    table = payments()
    amount = np.asarray(table["amount"])
    label = pa.array((amount >= np.sort(amount)[-FRAUDS]).astype(np.int8))
    table = table.drop_columns(["kind"]).append_column("fraud", label)
    model = fit(prepare(table), SHORT, target="fraud")
    drawn, real = model.draw(1, 0, 100_000).to_pandas(), table.to_pandas()
    assert (drawn.fraud == 1).mean() == pytest.approx(FRAUDS / ROWS, rel=0.2)
    frauds = drawn[drawn.fraud == 1]
    assert frauds.amount.median() == pytest.approx(real[real.fraud == 1].amount.median(), rel=0.15)
    assert drawn[drawn.fraud == 0].amount.quantile(0.9999) < frauds.amount.median()
    assert (frauds.country == "XX").mean() == pytest.approx((real[real.fraud == 1].country == "XX").mean(), abs=0.1)
