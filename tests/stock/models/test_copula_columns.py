"""What can be asked of one column of the native copula: distribution, ends, rounding, transformation, rare values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kstest, norm
from tests.tables import write_shards
from tests.tables.copula import native

from shardsynth import Job, plan_job
from shardsynth.errors import JobError
from shardsynth.models.copula.model import GaussianCopula

ROWS = 4000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    share = 1 / (1 + np.exp(-rng.standard_normal(ROWS)))
    ward = rng.choice(["a", "b", "c"], ROWS).astype(object)
    ward[:3], ward[3:6] = "rare", "seldom"
    return pa.table(
        {
            "age": np.clip(np.rint(60 + 12 * rng.standard_normal(ROWS)), 18, 99).astype(np.int16),
            "lab": np.round(np.exp(1 + rng.standard_normal(ROWS)), 2),
            "share": share,
            "ward": ward.tolist(),
        }
    )


def drawn(table: pa.Table, **options: Any) -> dict[str, np.ndarray]:
    batch = native(table, **options).draw(0, 0, 20_000)
    return {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}


def test_known_ends_are_reached_by_a_named_distribution_and_passed_by_none(table: pa.Table) -> None:
    asked = {"age": {"marginal": "norm", "min": 0, "max": 110}, "lab": {"max": 5.005}}
    rows, plain = drawn(table, columns=asked), drawn(table, marginals={"age": "norm"})
    assert rows["age"].min() < plain["age"].min() and plain["age"].max() <= 99 < rows["age"].max() <= 110
    assert rows["lab"].max() == 5.0  # the last point of the grid within
    free = drawn(table, columns={"age": {"marginal": "norm", "enforce_min_max": False}})
    assert free["age"].max() > 99 and abs(free["age"].mean() - 60) < 1
    flat = native(table, columns={"age": {"marginal": "uniform", "min": 0, "max": 120}}).learned_distributions["age"]
    assert flat["learned_parameters"] == {"loc": -0.5, "scale": 121.0}


def test_the_distribution_is_that_of_the_logarithm_or_the_logit(table: pa.Table, tmp_path: Path) -> None:
    asked = {"lab": {"marginal": "norm", "transform": "log"}, "share": {"marginal": "norm", "transform": "logit"}}
    model = native(table, columns=asked)
    found = model.learned_distributions
    assert found["lab"]["transform"] == {"name": "log", "base": 0.0}
    for name, centre in (("lab", 1.0), ("share", 0.0)):
        parameters = found[name]["learned_parameters"]
        assert abs(parameters["loc"] - centre) < 0.05 and abs(parameters["scale"] - 1) < 0.05
    model.save(tmp_path / "m")
    again = GaussianCopula.load(tmp_path / "m").draw(0, 0, 20_000)
    assert again.equals(model.draw(0, 0, 20_000))
    lab, share = (again.column(name).to_numpy() for name in ("lab", "share"))
    inner = lab[(lab > np.quantile(lab, 0.02)) & (lab < np.quantile(lab, 0.98))]
    ends = norm.cdf(np.log([inner.min(), inner.max()]), 1)
    assert kstest((norm.cdf(np.log(inner), 1) - ends[0]) / (ends[1] - ends[0]), "uniform").statistic < 0.03
    assert share.min() > 0 and share.max() < 1
    assert np.array_equal(np.round(lab, 2), lab)


def test_rounding_is_the_inputs_or_as_asked_or_none(table: pa.Table) -> None:
    for asked, digits in (({}, 2), ({"columns": {"lab": {"decimal_places": 1}}}, 1)):
        lab = drawn(table, **asked)["lab"]
        assert np.array_equal(np.round(lab, digits), lab)
        assert digits == 1 or not np.array_equal(np.round(lab, 1), lab)
    rows = drawn(table, enforce_rounding=False)
    assert (np.round(rows["lab"], 2) != rows["lab"]).mean() > 0.2
    assert rows["age"].dtype == np.int16 and rows["lab"].min() >= drawn(table)["lab"].min()


@pytest.mark.parametrize(("treatment", "held"), [("drop", set()), ("other", {"other"}), ("keep", {"rare", "seldom"})])
def test_rare_categories_are_dropped_or_called_other_or_kept(table: pa.Table, treatment: str, held: set[str]) -> None:
    model = native(table, rare={"min_count": 5, "as": treatment})
    assert set(model.columns[3].categories.to_pylist()) == {"a", "b", "c"} | held
    assert set(native(table, rare={"min_count": 2}).columns[3].categories.to_pylist()) == {*"abc", "rare", "seldom"}


def test_extremes_are_the_fifth_or_as_they_are(table: pa.Table) -> None:
    highest = np.sort(table["lab"].to_numpy())
    for extremes, wanted in (("clip", highest[-5]), ("keep", highest[-1])):
        marginal = native(table, extremes=extremes).columns[1].marginal
        assert marginal is not None and abs(marginal.hi[-1] - wanted) < 0.006
    marginal = native(table).columns[1].marginal
    assert marginal is not None and marginal.ends is not None
    assert abs(marginal.ends[1] - highest[-5]) < 0.006 and marginal.hi[-1] > highest[-5]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"agee": {"min": 0}}, "columns: no numeric column is called 'agee'; did you mean 'age'"),
        ({"age": {"maximum": 3}}, "columns.age: no option is called 'maximum'"),
        ({"age": {"marginal": "gama"}}, "no distribution 'gama'; did you mean 'gamma'"),
        ({"age": {"min": 5, "max": 3}}, "min 5 is not below max 3"),
        ({"age": {"min": 0, "enforce_min_max": False}}, "exclude each other"),
        ({"age": {"transform": "log"}}, "goes with a named distribution"),
        ({"age": {"transform": "sqrt", "marginal": "norm"}}, "there is no 'sqrt'; valid: log, logit"),
        ({"lab": {"decimal_places": 1.5}}, "wanted a whole number"),
        ({"ward": {"min": 1}}, "columns.ward: is of type string"),
        ({"lab": 3}, "wanted a mapping"),
    ],
)
def test_what_cannot_be_asked_is_said_before_any_task(table: pa.Table, tmp_path: Path, asked: Any, words: str) -> None:
    data = write_shards(table, tmp_path / "d", 1)
    models = {"gaussian_copula": {"columns": asked}}
    with pytest.raises(JobError, match=words):
        plan_job(Job.parse({"input": str(data), "output": str(tmp_path / "r"), "models": models}))
    assert not (tmp_path / "r").exists()


def test_values_that_have_no_transformed_value_are_counted(table: pa.Table) -> None:
    with pytest.raises(JobError, match="columns.age.transform: logit needs values in 0 to 1; about 4000 rows"):
        native(table, columns={"age": {"marginal": "norm", "transform": "logit"}})
    with pytest.raises(JobError, match="columns.age: no value of the column lies between"):
        native(table, columns={"age": {"min": 300}})
