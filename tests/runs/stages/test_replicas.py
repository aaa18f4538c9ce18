"""`replicas: k` trains k candidates as tasks of their own and keeps the best."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.here import go_on_here, run_here
from tests.tables import mixed_table, write_shards

from shardsynth import Job, Run, load_model, run_job
from shardsynth.data.shards import open_shards
from shardsynth.errors import JobError
from shardsynth.planning.plan import Plan, make_plan, replica_group


def job(data: Path, output: Path, replicas: int) -> Job:
    options = {"epochs": 4, "batch_size": 50, "compress_dims": [16], "decompress_dims": [16], "replicas": replicas}
    return Job.parse(
        {
            "input": str(data),
            "output": str(output),
            "models": {"mine": {"model": "tvae", **options}, "gaussian_copula": {}},
            "sample": {"rows": 200, "rows_per_shard": 100},
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_shards(mixed_table(300), tmp_path_factory.mktemp("data") / "d", 2)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Run:
    return run_here(job(data, tmp_path_factory.mktemp("runs") / "r", 3))


def test_candidates_are_tasks_and_the_choice_waits_for_them(data, tmp_path):
    plan = make_plan(job(data, tmp_path, 3), open_shards(str(data)), 6)
    assert [(t.model, t.replica, t.threads) for t in plan.tasks["fit"]] == [
        ("mine", 0, 2), ("mine", 1, 2), ("mine", 2, 2), ("mine", -1, 1), ("gaussian_copula", -1, 1),
    ]  # fmt: skip
    assert plan.needs(("fit", "mine")) == [("fit", replica_group("mine"))]
    assert plan.needs(("fit", replica_group("mine"))) == plan.needs(("fit", "gaussian_copula")) == [("count_merge", "")]
    assert plan.needs(("sample", "mine")) == [("fit", "mine")]
    assert Plan.from_json(plan.to_json()) == plan
    assert len(make_plan(job(data, tmp_path, 1), open_shards(str(data)), 6).tasks["fit"]) == 2


def test_the_best_is_kept_and_the_others_are_not_among_what_leaves(run):
    records = [run.dir.committed("fit", index) for index in range(4)]
    scores = [record["quality"] for record in records[:3]]
    best = scores.index(max(scores))
    assert len(set(scores)) == 3 and records[3]["replica"] == best
    for name in ("model.json", "model.safetensors"):
        kept = (run.dir.model("mine") / name).read_bytes()
        assert [(run.dir.replica("mine", i) / name).read_bytes() == kept for i in range(3)].count(True) >= 1
        assert (run.dir.replica("mine", best) / name).read_bytes() == kept
    assert run.dir.losses("mine").exists() and not list(run.dir.root.glob("models/*/*.parquet"))
    assert load_model(run.dir.model("mine")).sample(200).equals(run.samples("mine").to_table())
    assert run.status_lines()[-1] == "all done"


def test_a_lost_candidate_is_trained_again_to_the_same_choice(run):
    before = (run.dir.model("mine") / "model.safetensors").read_bytes()
    for path in [*run.dir.replica("mine", 1).iterdir(), *run.dir.model("mine").glob("model.*")]:
        path.unlink()
    go_on_here(run)
    assert (run.dir.model("mine") / "model.safetensors").read_bytes() == before


def test_no_candidate_is_refused(data, tmp_path):
    with pytest.raises(JobError, match="replicas: wanted at least 1, found 0"):
        run_job(job(data, tmp_path / "r", 0))
