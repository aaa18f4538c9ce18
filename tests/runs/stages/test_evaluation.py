"""The figures that need rows, through whole runs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from tests.here import go_on_here, run_here
from tests.tables import write_shards
from tests.tables.planted import mds_like

from shardsynth import Job, Run, plan_job
from shardsynth.errors import InputError, JobError, ModelError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(mds_like(1200, 5)[0], tmp_path_factory.mktemp("data") / "shards", 3)


def job(data: Path, output: Path, evaluate: dict, **sample) -> Job:
    return Job.parse(
        {
            "input": str(data),
            "output": str(output),
            "models": {"gaussian_copula": {}},
            "sample": {"rows": 900, "rows_per_shard": 300, **sample},
            "evaluate": evaluate,
        }
    )


EVALUATE = {"holdout": 0.25, "target": "dead", "survival": {"time": "years", "event": "dead"}}


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_here(job(data, tmp_path_factory.mktemp("runs") / "three", EVALUATE))


def test_every_figure_is_in_the_metrics(done: Run) -> None:
    found = done.metrics("gaussian_copula")
    assert found["privacy"]["rows"] == {
        "synthetic": 900,
        "training": found["rows"]["real"],
        "holdout": found["rows"]["holdout"],
        "compared": found["rows"]["holdout"],
        "released": 900,
    }
    assert 0.3 < found["privacy"]["closest_record"]["closer_to_training"] < 0.7
    assert found["utility"]["target"] == "dead" and 0.4 < found["utility"]["train_real"] < 1
    assert found["utility"]["survival"]["rows"]["synthetic"] == 900
    assert 1 <= len(found["number_pairs"]) <= 6
    for pair in found["number_pairs"]:
        shape = [len(labels) for labels in pair["bins"]]
        assert [len(pair["synthetic"]), len(pair["synthetic"][0])] == shape
        assert abs(sum(sum(row) for row in pair["synthetic"]) - 1) < 1e-3
    assert 0.4 < found["detection"]["auc"] <= 1 and found["detection"]["holdout"]["rows"] == found["rows"]["holdout"]


def test_any_number_of_tasks_gives_the_same_figures(data: Path, done: Run, tmp_path: Path) -> None:
    assert len(done.plan.tasks["score"]) == 3
    one = run_here(job(data, tmp_path / "one", EVALUATE, tasks=1))
    for key in ("privacy", "utility", "detection", "number_pairs"):
        assert one.metrics("gaussian_copula")[key] == done.metrics("gaussian_copula")[key]


def test_what_scoring_kept_of_the_rows_is_gone(done: Run) -> None:
    assert not [path for path in (done.dir.private / "scores").rglob("*") if path.is_file()]


def test_without_a_holdout_there_is_no_privacy_figure(data: Path, tmp_path: Path) -> None:
    found = run_here(job(data, tmp_path / "r", {"holdout": 0, "target": "dead"})).metrics("gaussian_copula")
    assert found["privacy"] == {} and found["utility"] == {}
    assert "holdout" not in found["detection"]


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"target": "deadd"}, "evaluate.target: no column is called 'deadd'"),
        ({"survival": {"time": "risk", "event": "dead"}}, "evaluate.survival.time: 'risk' is string; wanted a number"),
        ({"survival": {"time": "years", "event": "risk"}}, "say which value is the event"),
        ({"survival": {"time": "years"}}, "the key 'evaluate.survival.event' is missing"),
    ],
)
def test_columns_that_do_not_fit(data: Path, tmp_path: Path, evaluate: dict, message: str) -> None:
    with pytest.raises(JobError, match=message.replace("(", r"\(")):
        plan_job(job(data, tmp_path / "r", evaluate))


def private_metadata(folder: Path) -> Path:
    table, columns = mds_like(1200, 5)
    described = {}
    for column in columns:
        values = [v for v in table[column.name].to_pylist() if v is not None]
        declared = (
            {"range_values": sorted(set(values))}
            if column.role == "category"
            else {"range_min": 0, "range_max": 1000 if column.name == "plt" else 100}
        )
        described[column.name] = {"sdtype": column.sdtype, **declared}
    path = folder / "public.json"
    spec = {"tables": {"t": {"columns": described}}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def test_a_private_run_says_so_and_never_draws_its_noise_twice(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("opendp")
    plain = job(data, tmp_path / "r", EVALUATE).to_dict()
    asked = {**plain, "metadata": str(private_metadata(tmp_path)), "privacy": {"epsilon": 50, "delta": 1e-5}}
    with pytest.raises(ModelError, match="needs noise of"):
        plan_job(Job.parse({**asked, "privacy": {"epsilon": 1, "delta": 1e-5}}))
    with pytest.raises(JobError, match="privacy.delta"):
        plan_job(Job.parse({**asked, "privacy": {"epsilon": 50, "delta": 0.01}}))
    run = run_here(Job.parse(asked))
    guarantee = run.metrics("gaussian_copula")["guarantee"]
    assert guarantee["epsilon"] <= 50 and guarantee["tables"] == 31 * 32 // 2
    card = json.loads((run.dir.model("gaussian_copula") / "run.json").read_text())
    assert card["privacy"] == guarantee
    assert "INTERNAL, NOT COVERED" in run.report.read_text()
    with tarfile.open(run.pack(tmp_path / "p.tar.gz")) as archive:
        assert {name.split("/")[1] for name in archive.getnames()} == {"models", "samples"}
    assert (
        json.loads((run.dir.root / "metadata.json").read_text())["tables"]["table"]["columns"]["plt"]["range_max"]
        == 1000
    )
    (run.dir.private / "summary" / "private_tables").unlink()
    for path in run.dir.model("gaussian_copula").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="drawn once"):
        go_on_here(run)


def test_a_privately_trained_run_says_so_and_never_trains_twice(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("opendp")
    pytest.importorskip("dp_accounting")
    asked = {
        **job(data, tmp_path / "r", EVALUATE).to_dict(),
        "models": {"autoregressive": {"embedding": 16, "hidden": 16, "max_epochs": 40}},
        "metadata": str(private_metadata(tmp_path)),
        "privacy": {"epsilon": 50, "delta": 1e-5},
    }
    with pytest.raises(ModelError, match="times as long as the gradients of 900 rows can be: about"):
        plan_job(Job.parse({**asked, "privacy": {"epsilon": 0.5, "delta": 1e-5}}))
    run = run_here(Job.parse(asked))
    guarantee = run.metrics("autoregressive")["guarantee"]
    assert 49 < guarantee["epsilon"] <= 50 and guarantee["steps"] == 40 and guarantee["sampling_rate"] == 1.0
    card = json.loads((run.dir.model("autoregressive") / "run.json").read_text())
    assert card["privacy"] == guarantee
    page = run.report.read_text()
    assert "INTERNAL, NOT COVERED" in page and guarantee["mechanism"] in page
    assert not run.dir.losses("autoregressive").exists()  # it would tell of the rows
    with tarfile.open(run.pack(tmp_path / "p.tar.gz")) as archive:
        assert {name.split("/")[1] for name in archive.getnames()} == {"models", "samples"}
    for path in run.dir.model("autoregressive").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="drawn once .fit 0.*another draw would spend the budget twice"):
        go_on_here(run)
