"""`shardsynth sample --submit`: rows of a fitted model as arrays, the same bytes as made on this machine."""

from __future__ import annotations

import hashlib
import json

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss


def parts(folder):
    """Checksums of the parts, and the manifest."""
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("part-*.parquet")}
    return sums, json.loads((folder / "_manifest.json").read_text())


@pytest.fixture(scope="module")
def model(make_job, tmp_path_factory):
    """A fitted copula, in a run whose job says where its tasks run."""
    root = tmp_path_factory.mktemp("fitted") / "run"
    job = make_job(root, sample={"rows": 100}, cluster={"pack": 4, "stages": {"sample": {"time": "30"}}})
    shardsynth("run", job, "--here")
    return root / "models" / "gaussian_copula"


def test_rows_of_a_model_are_made_by_arrays_and_what_is_cancelled_is_made_later(idle, model, tmp_path):
    asked = ["sample", model, "--rows", "2000", "--rows-per-shard", "100", "--where", "sex == 'F'"]
    shardsynth(*asked, "-o", tmp_path / "here", "--here")
    out = tmp_path / "the 'rows' $(touch pwned)"
    asked += ["-o", out, "--same-rows", "--submit"]
    said = shardsynth(*asked, "--dry-run")
    assert "--time=30" in said and not out.exists() and len(list((model / "ledger").iterdir())) == 1
    said = shardsynth(*asked, "--set", "cluster.stages.merge.mem_gb=1")
    assert "sample gaussian_copula: 20 tasks in 5 elements" in said and "merge gaussian_copula: 1 tasks in" in said
    shardsynth("cancel", out)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 30, 0.3)
    assert shardsynth("status", out).count("sample") >= 1
    said = shardsynth(*asked)
    assert "submitted: nothing runs on this machine" in said
    run = ss.Run(out).wait(300)
    assert parts(out) == parts(tmp_path / "here")
    assert run.samples("gaussian_copula").rows == 2000
    assert [line.split()[:2] for line in run.status_lines()][1:] == [
        ["sample", "20/20"],
        ["merge", "1/1"],
        ["all", "done"],
    ]
    assert "all done" in shardsynth("resume", out) and "freed" in shardsynth("clean", out)
    assert "these rows exist already" in shardsynth(*asked[:-2], "--submit", code=2)
    assert len(list((model / "ledger").iterdir())) == 2 and not list(tmp_path.rglob("pwned"))


def test_a_purged_part_is_made_again_on_this_machine(model, tmp_path):
    asked = ["sample", model, "--rows", "500", "--rows-per-shard", "100", "--seed", "9", "-o", tmp_path / "out"]
    shardsynth(*asked, "--set", "cluster.executor=debug", "--here")
    before = parts(tmp_path / "out")
    (tmp_path / "out" / "part-00003.parquet").unlink()
    assert "4/5" in shardsynth("status", tmp_path / "out")
    assert "500 rows in 5 parts" in shardsynth("resume", tmp_path / "out", "--here")
    assert parts(tmp_path / "out") == before
