"""Whole runs whose input differs in the values of the four most extreme persons alone: the models are the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.finished import QUICK, QUICK_GAN, small_job
from tests.here import run_here
from tests.tables import write_shards

from shardsynth import Run, load_model

FAMILIES = {
    "gaussian_copula": {},
    "named": {"model": "gaussian_copula", "marginals": "gamma"},
    "autoregressive": {"max_epochs": 2, "embedding": 8, "hidden": 8},
    "ctgan": QUICK_GAN,
    "copulagan": QUICK_GAN,
    "tvae": QUICK,
}
COLUMNS = {
    "person": {"sdtype": "id"},
    "weight": {"sdtype": "numerical", "range_min": 0, "range_max": 500},
    "visits": {"sdtype": "numerical"},
    "seen": {"sdtype": "datetime"},
    "outcome": {"sdtype": "categorical"},
}
PERSONS, VISITS = 400, 3


def visits(extremes: list[float]) -> pa.Table:
    """Three visits of each person; ``extremes`` replace the largest values of four persons, and mirrored the smallest."""
    rng = np.random.default_rng(6)
    person = np.repeat(np.arange(PERSONS), VISITS)

    def column(change: bool) -> np.ndarray:
        x = np.repeat(rng.normal(size=PERSONS), VISITS) + 0.3 * rng.normal(size=PERSONS * VISITS)
        own = x.reshape(PERSONS, VISITS)
        for sign in (1, -1) if change else ():
            for who, value in zip(np.argsort(-(sign * own).max(axis=1))[:4], extremes):
                own[who] = np.where(sign * own[who] > 2.2, sign * value, own[who])
        return x

    weight, number, day, free = column(True), column(True), column(True), column(False)
    return pa.table(
        {
            "person": [f"P{k:04d}" for k in person],
            "weight": np.round(80 + 10 * weight, 1),
            "visits": np.rint(50 + 12 * number).astype(np.int16),
            "seen": pa.array(np.rint(18_000 + 300 * day).astype(np.int32), pa.int32()).cast(pa.date32()),
            "outcome": np.where(free + 0.5 * weight.clip(-2, 2) > 0, "well", "ill"),
        }
    )


def run_of(folder: Path, extremes: list[float], shards: int, **changes) -> Run:
    data = write_shards(visits(extremes), folder / "d", shards)
    metadata = {"tables": {"table": {"columns": COLUMNS}}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    plain = {"models": FAMILIES, "person": "person", "cluster": {"rows_per_task": 500}}
    return run_here(small_job(data, folder / "r", **{**plain, **changes}), "fit")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Run]:
    return [
        run_of(tmp_path_factory.mktemp("tails"), [4.0, 4.1, 4.2, 4.3], shards=3),
        run_of(tmp_path_factory.mktemp("tails"), [5.0, 9.0, 9.0, 8.0], shards=2),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_does_not_know_the_four_most_extreme_persons(runs: list[Run], family: str) -> None:
    one, other = ({p.name: p.read_bytes() for p in run.dir.model(family).iterdir()} for run in runs)
    assert {"model.json", "model.safetensors"} <= set(one)
    for name in ("model.json", "model.safetensors"):
        assert one[name] == other[name], name


@pytest.mark.parametrize("family", FAMILIES)
def test_it_draws_values_beyond_the_others(runs: list[Run], family: str) -> None:
    folder = runs[0].dir.model(family)
    model = load_model(folder)
    rows = model.sample(20_000).to_pandas()
    assert 80 < rows["weight"].max() <= 500 and rows["weight"].min() >= 0
    columns = json.loads((folder / "model.json").read_text())["columns"]
    low, high = next(column["marginal"]["ends"] for column in columns if column["name"] == "weight")
    assert 40 < low < high < 120
    if family in ("gaussian_copula", "autoregressive"):
        assert rows["weight"].max() > high and rows["weight"].min() < low
        assert model.sample(50, conditions=f"weight > {high}").to_pandas()["weight"].min() > high
