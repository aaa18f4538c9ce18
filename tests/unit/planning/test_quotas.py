"""`sample.conditions` and `sample.balance`: so many rows under each condition, in any number of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tables import mixed_table, write_shards

from shardsynth import Job
from shardsynth.api import plan_job
from shardsynth.errors import JobError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(mixed_table(800), tmp_path_factory.mktemp("data") / "shards", 2)


def job(data: Path, output: Path, models: dict[str, Any] | None = None, **sample: Any) -> Job:
    sample = {"rows": 1000, "rows_per_shard": 300, **sample}
    models = models or {"gaussian_copula": {}}
    return Job.parse({"input": str(data), "output": str(output), "models": models, "sample": sample})


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        ({"conditions": [{"where": "sexx == 'F'", "share": 0.5}]}, r"conditions\[0\]: no column .* 'sexx'; .* 'sex'"),
        ({"conditions": [{"where": "sex = 'F'", "share": 0.5}]}, r"conditions\[0\]: cannot read the condition"),
        ({"conditions": [{"where": "sex == 'F'"}]}, "either `rows` or `share`"),
        ({"conditions": [{"where": "sex == 'F'", "rows": 5, "share": 0.1}]}, "either `rows` or `share`"),
        ({"conditions": [{"where": "sex == 'F'", "rows": 2000}]}, "ask for 2,000 rows, sample.rows is 1,000"),
        ({"conditions": [{"where": "sex == 'F'", "share": 0.6}] * 2}, "add up to more than 1"),
        ({"conditions": [{"where": "sex == 'F'", "share": 0.6}], "balance": "sex"}, "exclude each other"),
        ({"balance": "stagee"}, "sample.balance: no column is called 'stagee'; did you mean 'stage'"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(data: Path, tmp_path: Path, sample: Any, why: str) -> None:
    with pytest.raises(JobError, match=why):
        plan_job(job(data, tmp_path / "run", **sample))


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("stage == 'IIII'", r"conditions\[0\]: stage == 'IIII': the input has no such category .*--show-values"),
        ("sex == 'F' and sex == 'M'", "no value of the column can pass all of it"),
        ("sex == 'F' and sex != 'F'", "no value of the column can pass all of it"),
        ("age > 80 and age < 60", "no value of the column can pass all of it"),
        ("60 < age < 61", "no value of the column can pass all of it"),
        ("age == 40.5", "no value of the column can pass all of it"),
        ("age in [30, 90] and 40 <= age < 80", "no value of the column can pass all of it"),
        ("isnull(marker) and marker > 1", "both missing and not"),
        ("age > 300", "age > 300: no row of the input reaches it"),
        ("age in [300, -5]", "no row of the input reaches it"),
        ("age >= 'forty'", "type int8 cannot be compared with such a value"),
        ("isnull(sex)", "column 'sex' is never missing in the input"),
        ("patient == 'P7'", "made up, not learned"),
    ],
)
def test_what_no_model_can_meet_is_said_before_any_task(data: Path, tmp_path: Path, where: str, why: str) -> None:
    plain = job(data, tmp_path / "run", conditions=[{"where": where, "share": 0.5}])
    with pytest.raises(JobError, match=why):
        plan_job(Job.parse({**plain.to_dict(), "anonymize": {"patient": "name"}}))
    assert not (tmp_path / "run").exists()


def test_stock_models_take_none(data: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"models\.g: stock models take no conditions"):
        plan_job(job(data, tmp_path / "run", {"g": {"model": "gaussian_copula", "engine": "sdv"}}, balance="sex"))
