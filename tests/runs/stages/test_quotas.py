"""`sample.conditions` and `sample.balance`: so many rows under each condition, in any number of tasks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.here import run_here
from tests.tables import mixed_table, write_shards

from shardsynth import Job, Run
from shardsynth.errors import ShardsynthError

CONDITIONS = [
    {"where": 'sex == "F" and age >= 60', "share": 0.25},
    {"where": {"stage": ["II", "III"], "marker": None}, "rows": 130},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(mixed_table(800), tmp_path_factory.mktemp("data") / "shards", 2)


def job(data: Path, output: Path, models: dict[str, Any] | None = None, **sample: Any) -> Job:
    sample = {"rows": 1000, "rows_per_shard": 300, **sample}
    models = models or {"gaussian_copula": {}}
    return Job.parse({"input": str(data), "output": str(output), "models": models, "sample": sample})


def manifest(run: Run, model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.dir.samples(model) / "_manifest.json").read_text())
    return found


def test_each_condition_has_its_rows_and_the_manifest_says_so(data: Path, tmp_path: Path) -> None:
    run = run_here(job(data, tmp_path / "run", conditions=CONDITIONS))
    rows = run.samples("gaussian_copula").to_table()
    assert rows.num_rows == 1000 and rows.schema.equals(run.plan.schema, check_metadata=True)
    first, second, rest = rows.slice(0, 250), rows.slice(250, 130), rows.slice(380)
    assert pc.all(pc.equal(pc.cast(first["sex"], pa.string()), "F")).as_py() and pc.min(first["age"]).as_py() >= 60
    assert first["age"].null_count == 0 and second["marker"].null_count == 130
    assert set(second["stage"].to_pylist()) == {"II", "III"}
    assert len(set(rest["stage"].to_pylist())) == 5 and 0 < rest["marker"].null_count < 300
    assert len(pc.unique(rows["patient"])) == 1000
    told = manifest(run, "gaussian_copula")["conditions"]
    assert [(block["first_row"], block["rows"]) for block in told] == [(0, 250), (250, 130), (380, 620)]
    assert told[0]["where"] == "sex == 'F' and age >= 60" and told[2]["where"] is None
    assert 0.2 < told[0]["acceptance"] <= 1 and 0.2 < told[1]["acceptance"] <= 1 and told[2]["acceptance"] is None

    other = run_here(job(data, tmp_path / "one", conditions=CONDITIONS, rows_per_shard=1000, tasks=1))
    assert other.samples("gaussian_copula").to_table().equals(rows)
    plain = run_here(job(data, tmp_path / "plain"))
    assert plain.samples("gaussian_copula").to_table().slice(380).equals(rest)
    assert "conditions" not in manifest(plain, "gaussian_copula")


def test_balance_gives_every_class_the_same_share_in_any_model(data: Path, tmp_path: Path) -> None:
    models = {"gaussian_copula": {}, "ctgan": {"epochs": 2, "generator_dim": [32], "discriminator_dim": [32]}}
    run = run_here(job(data, tmp_path / "run", models, balance="stage"))
    for name in models:
        counts = Counter(run.samples(name).to_table()["stage"].to_pylist())
        assert counts == {"I": 250, "II": 250, "III": 250, "IV": 250}
        assert [block["rows"] for block in manifest(run, name)["conditions"]] == [250] * 4


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        ({"conditions": [{"where": "dose == 20.05", "share": 0.5}]}, "'dose' is never 20.05"),
        ({"balance": "marker"}, "'marker' is no column of categories"),
    ],
)
def test_what_no_model_can_meet_ends_the_run_before_sampling(data: Path, tmp_path: Path, sample: Any, why: str) -> None:
    with pytest.raises(ShardsynthError, match=why):
        run_here(job(data, tmp_path / "run", **sample))
    assert not list((tmp_path / "run").glob("samples/*/part-*.parquet"))
