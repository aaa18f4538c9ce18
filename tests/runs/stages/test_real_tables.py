"""The real tables through all four families: the schema comes back to the last detail."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.here import run_here

from shardsynth import Job

FEW = {"engine": "sdv", "epochs": 1}
#: Stock preparation grows with the rows: the large table takes one stock GAN, the small one all stock families.
MODELS = {
    "adult": {
        "gaussian_copula": {},
        "ctgan": {"epochs": 1, "normalisation_rows": 1000},
        "copulagan": {"epochs": 1, "normalisation_rows": 1000},
        "tvae": {"epochs": 1},
    },
    "mds": {
        "gaussian_copula": {},
        "stock_copula": {"model": "gaussian_copula", "engine": "sdv"},
        "ctgan": FEW,
        "copulagan": FEW,
        "tvae": FEW,
    },
}


@pytest.mark.parametrize("table", MODELS)
def test_a_job_over_a_real_table(request: pytest.FixtureRequest, tmp_path: Path, table: str) -> None:
    folder = request.getfixturevalue(f"{table}_dir")
    job = {
        "input": str(folder),
        "output": str(tmp_path / "run"),
        "models": MODELS[table],
        "sample": {"rows": "1x", "rows_per_shard": 20_000},
    }
    run = run_here(Job.parse(job))
    real = pq.ParquetDataset(folder).read()
    for model in MODELS[table]:
        made = run.samples(model).to_table()
        assert made.num_rows == real.num_rows
        assert made.schema.equals(pq.read_schema(sorted(folder.glob("*.parquet"))[0])), model
        assert not made.slice(0, 1000).equals(real.slice(0, 1000))
    assert run.quality("gaussian_copula").score > 0.9
    assert all(model in run.report.read_text() for model in MODELS[table])
