"""Hardly any rows, none, changed or impossible ones; options that change what a run makes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.finished import QUICK, small_job
from tests.here import go_on_here, run_here
from tests.tables import mixed_table, write_shards

from shardsynth import plan_job
from shardsynth.errors import InputError, RunError
from shardsynth.stages.rewrite import write_run_report


def test_an_input_that_changed_since_the_plan_is_an_error(tmp_path):
    data = write_shards(mixed_table(), tmp_path / "d", 2)
    plan = plan_job(small_job(data, tmp_path / "r"))
    pq.write_table(mixed_table(300, seed=5), data / "part-00001.parquet")
    with pytest.raises(InputError, match=r"part-00001\.parquet: the shard changed since the run was planned"):
        go_on_here(plan)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_hardly_any_rows(tmp_path, rows):
    data = write_shards(mixed_table(rows), tmp_path / "d", 1)
    run = run_here(small_job(data, tmp_path / "r", evaluate={"holdout": 0}, sample={"rows": 20, "rows_per_shard": 7}))
    table = run.samples("gaussian_copula").to_table()
    assert table.num_rows == 20 and table.schema.equals(run.plan.schema, check_metadata=True)


def test_what_needs_a_finished_run_says_so(small_shards, tmp_path):
    run = plan_job(small_job(small_shards, tmp_path / "r"))
    with pytest.raises(RunError, match=r"the run is not done \(profile, .* left\); resume it first"):
        run.pack(tmp_path / "out.tar.gz")
    with pytest.raises(RunError, match="no figures yet of gaussian_copula"):
        write_run_report(run.dir.root)
    assert not (tmp_path / "out.tar.gz").exists()


def test_zero_rows_asked_is_an_empty_table(small_shards, tmp_path):
    run = run_here(small_job(small_shards, tmp_path / "r", sample={"rows": 0}))
    assert run.samples("gaussian_copula").to_table().schema.equals(run.plan.schema, check_metadata=True)


def test_infinite_values_are_named_not_shown(tmp_path):
    table = pa.table({"x": [1.5, float("inf"), 3.25], "y": [1, 2, 3]})
    data = write_shards(table, tmp_path / "d", 1)
    with pytest.raises(InputError, match=r"column 'x': 1 infinite value"):
        run_here(small_job(data, tmp_path / "r"))


def test_coalesced_files_hold_the_same_rows(small_shards, tmp_path):
    run = run_here(
        small_job(small_shards, tmp_path / "r", sample={"rows": 500, "rows_per_shard": 100, "coalesce_mb": 1})
    )
    manifest = run.samples("gaussian_copula").manifest
    tables = [pq.read_table(run.dir.samples("gaussian_copula") / entry["path"]) for entry in manifest["coalesced"]]
    assert len(tables) == 1 and tables[0].equals(run.samples("gaussian_copula").to_table())
    assert tables[0].schema.equals(run.plan.schema, check_metadata=True)


def test_groups_fall_on_one_side_of_the_holdout(tmp_path):
    table = mixed_table(400).append_column("person", pa.array([f"q{i % 60}" for i in range(400)]))
    data = write_shards(table, tmp_path / "d", 3)
    run = run_here(small_job(data, tmp_path / "r", evaluate={"holdout": 0.3, "group": "person"}))
    from shardsynth.summaries.profile import Profile

    folder = run.dir.private / "summary"
    sides = [set(Profile.load(folder / f"profile.{n}").sample["person"].to_pylist()) for n in ("train", "holdout")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_training_on_all_rows_with_a_look_at_the_quality(small_shards, tmp_path):
    models = {"tvae": {**QUICK, "check_epochs": 2, "check_rows": 500}}
    fit = {"rows": "all", "sample_rows": 100}
    run = run_here(small_job(small_shards, tmp_path / "r", models=models, fit=fit, evaluate={"holdout": 0.25}))
    losses = pq.read_table(run.dir.losses("tvae"))
    assert [score is None for score in losses["quality"].to_pylist()] == [True, False, True]
    rows = run.metrics("tvae")["rows"]
    assert rows["fitted"] == rows["real"] > 250 and not rows["sampled"]
    assert not list(run.dir.private.glob("training-*"))
