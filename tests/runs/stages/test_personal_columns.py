"""The default job on a table with persons, references and codes: nothing real comes out, no code is invented."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import yaml
from tests.here import run_here

from shardsynth import Job, Run
from shardsynth.commands.init import write_job
from shardsynth.errors import MetadataError
from shardsynth.report.judgement import verdicts

ROWS = 600
NAMES = [f"{a} {b}" for a in ("Ada", "Ben", "Cleo", "Dan", "Eva") for b in ("Abel", "Brandt", "Cruz", "Ferro")]


def hospital() -> pd.DataFrame:
    """Visits: persons by name, number and mother; an encounter on one or two rows; a code with its description."""
    rng = np.random.default_rng(4)
    codes = np.unique(rng.integers(10**8, 10**9, 60))
    place = np.minimum(rng.geometric(0.08, ROWS) - 1, len(codes) - 1)
    numbers = rng.permutation(9_000_000)[:ROWS] + 1_000_000
    encounters = [f"E{i:07d}" for i in rng.permutation(9_999_999)[: ROWS - 150]]
    return pd.DataFrame(
        {
            "number": numbers,
            "Name": rng.choice(NAMES, ROWS),
            "mother": rng.choice(numbers, ROWS),
            "encounter": [*encounters, *encounters[:150]],
            "code": codes[place],
            "description": [f"finding {i}" for i in place],
            "gender_concept_id": rng.choice([8507, 8532], ROWS),
            "hb": rng.normal(12, 2, ROWS).round(1),
        }
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Run, str]:
    folder = tmp_path_factory.mktemp("hospital")
    (folder / "data").mkdir()
    real = hospital()
    real.to_parquet(folder / "data" / "0.parquet", index=False)
    told = "\n".join(write_job(str(folder / "data"), folder / "job.yaml", str(folder / "run")))
    return real, run_here(Job.load(folder / "job.yaml", ["models={gaussian_copula: {}}"])), told


def test_nothing_real_comes_out_and_no_code_is_invented(done: tuple[pd.DataFrame, Run, str]) -> None:
    real, run, _ = done
    made = run.samples("gaussian_copula").to_table().to_pandas()
    for name in ("Name", "encounter", "number", "mother"):
        assert made[name].isin(real[name]).mean() < 0.01, name
        assert not made[name].isna().any(), name
    assert made["Name"].nunique() == real["Name"].nunique()
    assert set(made["code"]) <= set(real["code"]) and set(made["gender_concept_id"]) == {8507, 8532}
    pairs = set(zip(real["code"], real["description"]))
    assert set(zip(made["code"], made["description"])) <= pairs
    assert verdicts("m", run.metrics("gaussian_copula"))[1].words != "Gives away real values"


def test_init_says_what_it_found_and_writes_it_down(done: tuple[pd.DataFrame, Run, str]) -> None:
    _, run, told = done
    assert run.job.anonymize == {"Name": "name"}
    for name in ("Name", "mother", "encounter", "code", "gender_concept_id"):
        assert f"column '{name}':" in told
    metadata = Path(run.job.metadata or "").read_text(encoding="utf-8")
    assert not any(name in told + metadata for name in NAMES)


def test_to_learn_persons_wants_to_be_said(done: tuple[pd.DataFrame, Run, str], tmp_path: Path) -> None:
    _, run, _ = done
    metadata = json.loads(Path(run.job.metadata or "").read_text())
    metadata["tables"]["table"]["columns"]["Name"] = {"sdtype": "categorical"}
    (tmp_path / "m.json").write_text(json.dumps(metadata))
    job = {
        **yaml.safe_load(run.job.to_yaml()),
        "output": str(tmp_path / "refused"),
        "metadata": str(tmp_path / "m.json"),
    }
    job["anonymize"] = {}
    with pytest.raises(MetadataError, match=r"'Name' is 'categorical'.*persons' names.*anonymize.*learn_personal"):
        run_here(Job.parse(job))
    learned = run_here(Job.parse({**job, "output": str(tmp_path / "learned"), "learn_personal": ["Name"]}))
    names = learned.samples("gaussian_copula").to_table()["Name"]
    assert pc.all(pc.is_in(names, value_set=pc.unique(names))).as_py() and set(names.to_pylist()) <= set(NAMES)
    figures = learned.metrics("gaussian_copula")
    assert figures["privacy"]["text"]["Name"]["real"] == 1.0
    assert verdicts("m", figures)[1].words == "Gives away real values"
    assert "real persons&#39; ones" in learned.report.read_text() or "real persons' ones" in learned.report.read_text()
