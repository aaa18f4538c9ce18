"""Dates and numbers that a table writes as text or whole numbers: learned as such, written as they came."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.here import run_here

from shardsynth import Job, Run, load_model
from shardsynth.commands.init import write_job

ROWS = 900


def clinic() -> pa.Table:
    random = np.random.default_rng(0)
    days = pd.Timestamp("2019-01-01") + pd.to_timedelta(random.integers(0, 1_100, ROWS), unit="D")
    stamps = pd.Series(days + pd.to_timedelta(random.integers(0, 86_400_000, ROWS), unit="ms"))
    onset = [
        day.strftime("%Y") if k % 10 == 0 else f"2020-0{1 + k % 9}" if k % 10 == 5 else str(day.date())
        for k, day in enumerate(days)
    ]
    lab = np.exp(random.normal(1, 1, ROWS)).round(2)
    return pa.table(
        {
            "visit": days.strftime("%d/%m/%Y"),
            "visit_number": pa.array(days.strftime("%Y%m%d").astype("int64")),
            "month": pa.array(days.strftime("%Y%m").astype("int32")),
            "onset": onset,
            "informed": [f"{stamp:%Y-%m-%d}" if k % 2 else f"{stamp:%Y-%m-%dT%H:%M}" for k, stamp in enumerate(stamps)],
            "created": [stamp[:-3] + "+01:00" for stamp in stamps.dt.strftime("%Y-%m-%dT%H:%M:%S.%f")],
            "sas": days.strftime("%d%b%Y").str.upper(),
            "valid_to": ["9999-12-31" if k % 4 == 0 else str(d.date()) for k, d in enumerate(days)],
            "crp": ["<0.50" if value < 0.5 or k % 5 == 0 else f"{value:.2f}" for k, value in enumerate(lab)],
            "platelets": [f"{n:,}" for n in random.integers(5_000, 400_000, ROWS)],
            "x": np.arange(ROWS) / 7,
            "ldh": np.where(np.arange(ROWS) % 20 == 0, 9999.0, random.normal(200, 30, ROWS).round()),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    (folder / "data").mkdir()
    pq.write_table(clinic(), folder / "data" / "a.parquet")
    return folder


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    return "\n".join(write_job(str(folder / "data"), folder / "job.yaml", str(folder / "run")))


@pytest.fixture(scope="module")
def run(folder: Path, said: str) -> Run:
    job = yaml.safe_load((folder / "job.yaml").read_text())
    # No tails, so that nothing lies outside the real ranges.
    return run_here(Job.parse({**job, "models": {"gaussian_copula": {}}, "evaluate": {}, "extremes": "clip"}))


def test_init_says_what_it_took_them_for(said: str, folder: Path) -> None:
    for line in (
        "'visit': dates as text, %d/%m/%Y: learned as dates",
        "'visit_number': dates as whole numbers, %Y%m%d: learned as dates",
        "'month': dates as whole numbers, %Y%m: learned as dates",
        "'onset': dates as text, ISO8601, of which some are less precise: learned as dates",
        "'informed': dates as text, ISO8601, of which some are less precise: learned as dates",
        "'crp': numbers as text, 1 values like '<9.99' apart from the others: learned as numbers",
        "'ldh': 5.0% of its values, 1 like '9999.9', lie far from all others: kept as values of their own",
        "'platelets': numbers as text, thousands separated by ',': learned as numbers",
    ):
        assert line in said
    written = json.loads((folder / "job.metadata.json").read_text())
    from sdv.metadata import Metadata

    Metadata.load_from_dict(written).validate()


def shape(value: object) -> str:
    return re.sub("[A-Z]", "A", re.sub(r"\d", "9", str(value)))


def test_all_come_out_as_they_came(run: Run) -> None:
    real, made = clinic().to_pandas(), run.samples("gaussian_copula").to_table().to_pandas()
    assert list(made.dtypes) == list(real.dtypes)
    for name in real.columns.drop(["x", "platelets", "crp", "ldh"]):
        assert set(made[name].map(shape)) == set(real[name].map(shape)), name
        assert made[name].nunique() > 20, name
    for name, form in {"visit": "%d/%m/%Y", "visit_number": "%Y%m%d", "month": "%Y%m", "sas": "%d%b%Y"}.items():
        for table in (real, made):
            table[name] = pd.to_datetime(table[name].astype(str), format=form)
        assert real[name].min() <= made[name].min() and made[name].max() <= real[name].max()
        assert abs(made[name].mean() - real[name].mean()) < dt.timedelta(days=60)
    assert abs((made["onset"].str.len() == 4).mean() - 0.1) < 0.03
    assert abs((made["onset"].str.len() == 7).mean() - 0.1) < 0.03
    assert abs((made["valid_to"] == "9999-12-31").mean() - 0.25) < 0.05
    assert made["ldh"][made["ldh"] != 9999].max() < 400 and abs((made["ldh"] == 9999).mean() - 0.05) < 0.03
    assert made["valid_to"][made["valid_to"] != "9999-12-31"].max() <= "2022-01-05", "nothing in the gap"
    assert abs((made["crp"] == "<0.50").mean() - (real["crp"] == "<0.50").mean()) < 0.05
    assert made["crp"][made["crp"] != "<0.50"].astype(float).min() >= 0.5
    assert made["platelets"].str.fullmatch(r"\d{1,3}(,\d{3})*").all()


def test_conditions_compare_them_as_what_they_are(run: Run) -> None:
    rows = (
        load_model(run.dir.root / "models" / "gaussian_copula")
        .sample(60, conditions='visit >= "05/03/2020" and crp < 2 and onset >= "2020"')
        .to_pandas()
    )
    assert (pd.to_datetime(rows["visit"], format="%d/%m/%Y") >= "2020-03-05").all()
    assert all(text == "<0.50" or float(text) < 2 for text in rows["crp"])
    assert (rows["onset"] >= "2020").all()


def test_the_judgement_knows_no_difference(run: Run) -> None:
    figures = json.loads((run.dir.root / "metrics" / "gaussian_copula.json").read_text())
    scores = {name: column["score"] for name, column in figures["diagnostic"]["columns"].items()}
    assert all(score > 0.99 for score in scores.values()), scores
