"""What a run of all models leaves, through the Python API; nothing here changes it."""

from __future__ import annotations

import json
import os
import stat
import tarfile

import pyarrow.parquet as pq
import pytest
from tests.finished import ALL_MODELS, NATIVE_MODELS, QUICK, final_files, small_job

from shardsynth import load_model, run_job
from shardsynth.api import describe_model
from shardsynth.cluster import ONE_TABLE
from shardsynth.errors import RunError
from shardsynth.executors.slurm.efficiency import efficiency_lines


def test_every_model_keeps_the_schema_to_the_last_detail(finished):
    for model in ALL_MODELS:
        table = finished.samples(model).to_table()
        assert table.schema.equals(finished.plan.schema, check_metadata=True)
        assert table.num_rows == 500
        assert table["empty"].null_count == 500
        assert set(table["site"].to_pylist()) == {"north"}
        for path in finished.samples(model).paths:
            assert pq.read_schema(path).equals(finished.plan.schema, check_metadata=True)


def test_ids_are_unique_over_the_whole_output(finished):
    for model in ALL_MODELS:
        assert len(set(finished.samples(model).to_table()["patient"].to_pylist())) == 500


def test_no_two_chunks_are_alike(finished):
    for model in ALL_MODELS:
        pieces = [pq.read_table(path).drop_columns(["patient"]) for path in finished.samples(model).paths]
        assert all(not a.equals(b) for i, a in enumerate(pieces) for b in pieces[:i])


def test_metrics_manifest_and_report(finished):
    for model in ALL_MODELS:
        figures = finished.metrics(model)
        assert 0.3 < figures["quality"]["score"] <= 1
        assert figures["quality"]["holdout"]["rows"] == figures["rows"]["holdout"] > 0
        assert figures["rows"]["synthetic"] == 500
        assert finished.samples(model).manifest["rows"] == 500
    page = finished.report.read_text()
    assert all(model in page for model in ALL_MODELS)
    assert finished.quality("gaussian_copula").column_shapes > 0.85


def test_real_rows_stay_private(finished):
    root = finished.dir.root
    assert stat.S_IMODE(os.stat(root).st_mode) == stat.S_IMODE(os.stat(finished.dir.private).st_mode) == 0o700
    assert not list(root.glob("models/**/*.pkl"))
    metadata = json.loads((root / "metadata.json").read_text())
    assert "range_max" not in json.dumps(metadata)
    from sdv.metadata import Metadata

    Metadata.load_from_json(str(root / "metadata.json")).validate()


def test_pack_takes_nothing_private(finished, tmp_path):
    with tarfile.open(finished.pack(tmp_path / "out.tar.gz")) as archive:
        names = archive.getnames()
    assert any(name.endswith("report/index.html") for name in names)
    assert not any("private" in name or name.endswith((".pkl", "plan.json", "metadata.json")) for name in names)
    assert not any("_ranges" in name for name in names)  # they tell how many rows were held out


def test_a_second_run_does_nothing_and_status_says_so(finished):
    before = final_files(finished.dir.root)
    run_job(finished.job)
    assert final_files(finished.dir.root) == before
    assert finished.status_lines()[-1] == "all done"


def test_the_run_of_another_job_is_refused(finished, small_shards):
    with pytest.raises(RunError, match="the run of another job"):
        run_job(small_job(small_shards, finished.dir.root, seed=9))


def test_load_model_and_sample(finished):
    for name in ALL_MODELS:
        table = load_model(finished.dir.model(name)).sample(50)
        assert table.schema.equals(finished.plan.schema, check_metadata=True)
        assert table.equals(finished.samples(name).to_table().slice(0, 50)) or name not in NATIVE_MODELS


def test_native_models_take_conditions_and_show_their_losses(finished):
    for name in sorted(NATIVE_MODELS):
        model = load_model(finished.dir.model(name))
        assert set(model.sample(50, conditions={"sex": "F"})["sex"].to_pylist()) == {"F"}
        if name != "gaussian_copula":
            assert pq.read_table(finished.dir.losses(name)).num_rows == QUICK["epochs"]
            assert not finished.dir.checkpoint(name).exists()
        assert any(name in line for line in describe_model(finished.dir.model(name)))


def test_efficiency_of_a_local_run_is_from_its_own_records(finished):
    lines = efficiency_lines(finished.dir, finished.plan)
    assert any("from the run's own records: it was not submitted to Slurm" in line for line in lines)
    table = lines[1 : lines.index(next(line for line in lines if line.startswith("used of")))]
    assert {line.split()[0] for line in table} == set(ONE_TABLE)
    assert not any("?" in line for line in table), "every record has CPU seconds and memory"
