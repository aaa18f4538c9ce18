"""The autoregressive model: what it learns, what it promises about rows, files, conditions and completed rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.autoregressive import QUICK, fit, people, prepared_people  # noqa: E402
from tests.tables.deep import Prepared, prepare  # noqa: E402

from shardsynth.errors import ConditionError, InputError, ModelError, Saved  # noqa: E402
from shardsynth.models.autoregressive import sampler  # noqa: E402
from shardsynth.models.autoregressive.model import AutoregressiveModel  # noqa: E402
from shardsynth.models.columns.known import UnknownCategory  # noqa: E402
from shardsynth.sampling.conditions import parse_conditions  # noqa: E402

ROWS = 16_384


@pytest.fixture(scope="module")
def source() -> Prepared:
    return prepared_people()


@pytest.fixture(scope="module")
def model(source: Prepared) -> AutoregressiveModel:
    return fit(source, QUICK)


@pytest.fixture(scope="module")
def fixed(source: Prepared) -> AutoregressiveModel:
    return fit(source, {**QUICK, "order": "fixed"})


@pytest.fixture(scope="module")
def rows(model: AutoregressiveModel) -> pd.DataFrame:
    return model.draw(0, 0, ROWS).to_pandas()


def test_format_is_the_inputs(model: AutoregressiveModel, source: Prepared) -> None:
    batch = model.draw(0, 0, 100)
    assert batch.schema.equals(source.table.schema, check_metadata=True)
    assert len(pc.unique(batch["id"])) == 100


def test_exact_relations_are_kept(rows: pd.DataFrame) -> None:
    assert (rows["pay"] == rows["base"] + rows["bonus"]).all()
    assert rows.groupby("grade")["level"].nunique().eq(1).all()
    assert levels(people().to_pandas()) == levels(rows)


@pytest.mark.parametrize("where", ["", 'sex == "f" and 30 <= age < 50', 'level == 25 and sex == "f"'])
def test_the_tables_of_the_first_columns_are_the_network(
    model: AutoregressiveModel, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = parse_conditions(where) if where else None
    tabulated = replace(model).draw(0, 0, 4096, conditions).to_pandas()
    monkeypatch.setattr(sampler, "_MOST_BEGINNINGS", 0)
    computed = replace(model).draw(0, 0, 4096, conditions).to_pandas()
    same = (tabulated == computed) | (tabulated.isna() & computed.isna())
    assert same.all(axis=1).mean() > 0.999  # all but where a uniform number falls on the last bit


def levels(frame: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(frame["grade"], frame["level"]))


def test_frequencies_are_the_counted_ones(rows: pd.DataFrame, source: Prepared) -> None:
    """Total variation of a category within what so many rows of a perfect model give (and a little)."""
    real = source.table.to_pandas()
    for name in ("sex", "grade", "age"):
        a, b = (frame[name].value_counts(normalize=True) for frame in (real, rows))
        distance = 0.5 * a.sub(b, fill_value=0).abs().sum()
        noise = 0.5 * np.sqrt(2 / np.pi) * np.sqrt(a * (1 - a) / ROWS).sum()
        assert distance < 2 * noise + 0.01, name
    assert rows["weight"].isna().mean() == pytest.approx(real["weight"].isna().mean(), abs=0.02)


def test_dependence_is_learned(rows: pd.DataFrame, source: Prepared) -> None:
    real = source.table.to_pandas()
    for name in ("weight", "age"):
        a, b = (frame.groupby("sex", observed=True)[name].mean() for frame in (real, rows))
        assert a["m"] - a["f"] == pytest.approx(b["m"] - b["f"], rel=0.2), name
    missing = rows["weight"].isna().groupby(rows["sex"], observed=True).mean()
    assert missing["f"] == pytest.approx(0.4, abs=0.05) and missing["m"] == pytest.approx(0.05, abs=0.03)
    found = np.corrcoef(np.log(rows["income"]), rows["age"])[0, 1]
    assert found == pytest.approx(np.corrcoef(np.log(real["income"]), real["age"])[0, 1], abs=0.1)


def test_no_value_is_copied(rows: pd.DataFrame, source: Prepared) -> None:
    """A column of almost distinct values: no more of them recur than chance has it on its grid."""
    real = set(source.table["income"].to_pylist())
    assert pd.Series(rows["income"]).isin(real).mean() < 0.01


def test_a_row_is_the_same_in_any_range_and_on_any_threads(model: AutoregressiveModel) -> None:
    whole = model.draw(4, 0, 10_000)
    assert model.with_threads(2).draw(4, 0, 10_000).equals(whole)
    for first, n in ((0, 1), (4_095, 2), (5_000, 5_000), (9_999, 1)):
        assert model.draw(4, first, n).equals(whole.slice(first, n))
    assert not model.draw(5, 0, 100).equals(whole.slice(0, 100))


def test_rows_under_conditions_are_the_same_in_any_range(model: AutoregressiveModel) -> None:
    where = model.prepare(parse_conditions("pay > 1500 and income > 20000"))
    whole = model.draw(4, 0, 6_000, where)
    assert model.with_threads(2).draw(4, 0, 6_000, where).equals(whole)
    assert model.draw(4, 4_000, 500, where).equals(whole.slice(4_000, 500))


def test_a_table_of_constants_and_ids_is_saved_and_loaded(tmp_path: Path) -> None:
    table = pa.table({"id": [f"P-{i:06d}" for i in range(200)], "site": ["north"] * 200, "n": [5] * 200})
    made = fit(prepare(table, {"id": "id"}), QUICK)
    made.save(tmp_path)
    rows = AutoregressiveModel.load(tmp_path).draw(0, 0, 50)
    assert rows.equals(made.draw(0, 0, 50)) and set(rows["site"].to_pylist()) == {"north"}


def test_save_and_load(model: AutoregressiveModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    again = AutoregressiveModel.load(tmp_path / "a")
    again.save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert again.draw(1, 0, 5_000).equals(model.draw(1, 0, 5_000))
    assert again.learned_distributions == model.learned_distributions
    (tmp_path / "a" / "model.json").write_text("{}")
    with pytest.raises(ModelError, match="not an autoregressive model"):
        AutoregressiveModel.load(tmp_path / "a")


def test_stopped_and_resumed_is_as_if_never_stopped(
    source: Prepared, fixed: AutoregressiveModel, tmp_path: Path
) -> None:
    options, path = {**QUICK, "order": "fixed"}, tmp_path / "checkpoint.safetensors"
    for stop in (30, 300):
        left = iter(range(stop))
        with pytest.raises(Saved):
            fit(source, options, checkpoint=path, should_stop=lambda left=left: next(left, None) is None)
    resumed = fit(source, options, checkpoint=path)
    assert resumed.draw(0, 0, 2_000).equals(fixed.draw(0, 0, 2_000))
    assert resumed.loss.equals(fixed.loss)


@pytest.mark.parametrize("mapped", [False, True])
def test_all_rows_in_batches_are_learned_as_the_sample_is(
    source: Prepared, fixed: AutoregressiveModel, tmp_path: Path, mapped: bool
) -> None:
    """The sample holds every row of this table: the trainings see the same, also from a mapped file."""
    assert source.profile.sample.num_rows == source.table.num_rows
    batches = source.profile.sample.to_batches(max_chunksize=3_000)
    scratch = tmp_path if mapped else None
    streamed = fit(source, {**QUICK, "order": "fixed"}, rows=lambda: batches, scratch=scratch)
    assert streamed.draw(0, 0, 2_000).equals(fixed.draw(0, 0, 2_000))
    assert [path.stat().st_size for path in tmp_path.iterdir()] == (
        [8_000 * len(streamed.coding.columns)] if mapped else []
    )


CONDITIONS = [
    'sex == "m"',
    'sex == "f" and 30 <= age < 50 and notnull(weight)',
    "level == 25",
    "isnull(weight)",
    "pay > 2500",
    "70 < weight < 80",
]


@pytest.mark.parametrize("where", CONDITIONS)
def test_conditions_hold(model: AutoregressiveModel, fixed: AutoregressiveModel, where: str) -> None:
    query = where.replace("notnull(weight)", "weight == weight").replace("isnull(weight)", "weight != weight")
    for one in (model, fixed):
        drawn = one.draw(2, 100, 1_500, parse_conditions(where)).to_pandas()
        assert len(drawn.query(query)) == 1_500


@pytest.mark.parametrize("where", CONDITIONS)
def test_fixed_order_conditions_are_the_model_filtered(fixed: AutoregressiveModel, where: str) -> None:
    """Exact: means and frequencies agree within four standard errors with a filtered unconditional sample."""
    query = where.replace("notnull(weight)", "weight == weight").replace("isnull(weight)", "weight != weight")
    filtered = fixed.draw(7, 0, 60_000).to_pandas().query(query)
    drawn = fixed.draw(8, 0, 8_192, parse_conditions(where)).to_pandas()
    for name in ("age", "income", "base", "bonus", "weight"):
        a, b = filtered[name].dropna(), drawn[name].dropna()
        if len(a) and len(b):
            error = np.sqrt(a.var() / len(a) + b.var() / len(b))
            assert abs(a.mean() - b.mean()) < 4 * error + 1e-6 * abs(a.mean()), name
    for name in ("sex", "grade"):
        a, b = (frame[name].value_counts(normalize=True) for frame in (filtered, drawn))
        for value in a.index:
            p = a[value]
            error = np.sqrt(p * (1 - p) * (1 / len(filtered) + 1 / len(drawn)))
            assert abs(p - b.get(value, 0.0)) < 4 * error + 1e-3, (name, value)


def test_acceptance_is_counted(model: AutoregressiveModel) -> None:
    prepared = model.prepare(parse_conditions('sex == "m"'))
    model.draw(0, 0, 4_096, prepared)
    assert prepared.acceptance() == {"proposals": 4_096, "accepted": 4_096}
    prepared = model.prepare(parse_conditions("pay > 2500"))
    model.draw(0, 0, 4_096, prepared)
    counts = prepared.acceptance()
    assert counts["accepted"] == 4_096 and counts["proposals"] > 2 * 4_096


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("wage > 3", "no column 'wage'; did you mean 'age'"),
        ('grade == "midd"', "no category 'midd' in the model; --show-values names"),
        ("isnull(age)", "never missing"),
        ('id == "x"', "made from the row number"),
        ("age > 200", "leaves no value"),
        ('grade == "low" and level == 25', "contradictory"),
    ],
)
def test_impossible_conditions(model: AutoregressiveModel, where: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        model.draw(0, 0, 10, parse_conditions(where))


def test_rows_are_completed(model: AutoregressiveModel, source: Prepared) -> None:
    given = source.table.slice(0, 6_000).select(["id", "sex", "grade", "age", "weight", "income"])
    whole = model.complete(given, 3)
    assert whole.schema.equals(source.table.schema, check_metadata=True) and whole["weight"].null_count == 0
    assert whole["id"].equals(given["id"]) and whole["sex"].to_pylist() == given["sex"].to_pylist()
    had = given["weight"].is_valid()
    assert whole["weight"].filter(had).equals(given["weight"].filter(had))
    frame = whole.to_pandas()
    assert (frame["pay"] == frame["base"] + frame["bonus"]).all()
    filled = frame.loc[~np.asarray(had)].groupby("sex", observed=True)["weight"].mean()
    assert filled["m"] - filled["f"] == pytest.approx(15, abs=5)
    part = model.complete(given.slice(5_000, 700), 3, first_row=5_000)
    assert part.equals(whole.slice(5_000, 700))


def test_rows_that_cannot_be_completed(
    model: AutoregressiveModel, fixed: AutoregressiveModel, source: Prepared
) -> None:
    given = source.table.slice(0, 3)
    with pytest.raises(ConditionError, match="order: any"):
        fixed.complete(given, 0)
    with pytest.raises(InputError, match="'wage' is not one of the model's"):
        model.complete(pa.table({"wage": [1]}), 0)
    with pytest.warns(UnknownCategory, match="column 'grade': 1 row"):
        assert model.complete(pa.table({"grade": ["mid", "secret"]}), 0)["grade"].to_pylist() == ["mid", "secret"]


def test_sampling_options(model: AutoregressiveModel, fixed: AutoregressiveModel, rows: pd.DataFrame) -> None:
    balanced = model.with_sampling(balance="grade").draw(0, 0, 8_192).to_pandas()
    assert balanced["grade"].value_counts(normalize=True).to_numpy() == pytest.approx(0.25, abs=0.02)
    sharp = model.with_sampling(temperature=0.5).draw(0, 0, 8_192).to_pandas()
    assert sharp["grade"].value_counts(normalize=True).max() > rows["grade"].value_counts(normalize=True).max() + 0.05
    few = model.with_sampling(top_p=0.5).draw(0, 0, 8_192).to_pandas()
    assert few["age"].nunique() < rows["age"].nunique()
    with pytest.raises(ModelError, match="no category column"):
        model.with_sampling(balance="age")
    with pytest.raises(ModelError, match="order: any"):
        fixed.with_sampling(balance="grade")


def test_a_column_of_many_categories() -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"town-{i:03d}" for i in range(300)])
    town = rng.choice(300, 6_000, p=(w := 1 / np.arange(1, 301)) / w.sum())
    table = pa.table({"town": names[town], "north": (town % 2 == 0)})
    prepared = prepare(table)
    model = fit(prepared, {**QUICK, "max_categories": 20, "max_epochs": 4})
    drawn = model.draw(0, 0, 20_000).to_pandas()
    a, b = (f["town"].value_counts(normalize=True) for f in (table.to_pandas(), drawn))
    kept = a[a * 6_000 >= 5]
    assert set(b.index) <= set(kept.index) and len(b) > 0.9 * len(kept)
    assert 0.5 * kept.sub(b, fill_value=0).abs().sum() < 0.06


def test_columns_are_missing_together_as_in_the_training_rows(tmp_path):
    """Laboratory values of one visit: all there, or none; another column has gaps of its own."""
    rng = np.random.default_rng(4)
    rows = 3000
    drawn, own = rng.random(rows) < 0.4, rng.random(rows) < 0.3
    table = pa.table(
        {
            "age": rng.integers(20, 80, rows),
            "iron": pa.array(rng.normal(10, 2, rows).round(1), mask=drawn),
            "other": pa.array(rng.normal(size=rows), mask=own),
            "ferritin": pa.array(rng.normal(50, 9, rows).round(), mask=drawn),
            "unit": pa.array(rng.choice(["a", "b"], rows), mask=drawn),
        }
    )
    model = fit(prepare(table), {**QUICK, "max_epochs": 2})
    assert [[model.coding.columns[i].name for i in group] for group in model.together] == [["iron", "ferritin", "unit"]]
    model.save(tmp_path)
    loaded = AutoregressiveModel.load(tmp_path)
    for where, seen in ((None, {0, 3}), ("isnull(unit)", {3}), ("ferritin > 40", {0}), ("age > 50", {0, 3})):
        conditions = None if where is None else parse_conditions(where)
        batch = loaded.draw(1, 100, 5000, conditions)
        assert batch.equals(model.draw(1, 100, 5000, conditions))
        absent = sum(np.asarray(batch[name].is_null()).astype(int) for name in ("iron", "ferritin", "unit"))
        assert set(absent.tolist()) == seen
    share = np.asarray(model.draw(1, 0, 20_000)["iron"].is_null()).mean()
    assert share == pytest.approx(0.4, abs=0.05)
    apart = fit(prepare(table.select(["age", "other"])), {**QUICK, "max_epochs": 1})
    apart.save(tmp_path / "apart")
    assert "together" not in (tmp_path / "apart" / "model.json").read_text()
