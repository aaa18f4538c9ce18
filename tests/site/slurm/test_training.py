"""A training that is pre-empted twice ends in the weights of one that never was."""

from __future__ import annotations

from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import outcome, shardsynth

import shardsynth as ss

TRAINING = {
    "models": {"tvae": {"epochs": 500, "compress_dims": [64], "decompress_dims": [64], "checkpoint_minutes": 0.01}},
    "sample": {"rows": 300, "rows_per_shard": 100},
    "cluster": {"stages": {"fit": {"cpus": 1, "partition": "cpu"}}},
}


def test_a_training_preempted_twice_ends_in_the_same_weights(idle, make_job, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root, **TRAINING))
    run = ss.Run(root)
    log = run.dir.log("fit", 0)
    wait_until("a first checkpoint", run.dir.checkpoint("tvae").is_file, 120, 0.1)
    _preempt(idle)
    wait_until("the first resumption", lambda: len(_resumed(log)) >= 1, 120, 0.1)
    _preempt(idle)
    wait_until("the second resumption", lambda: len(_resumed(log)) >= 2, 120, 0.1)
    run.wait(240)
    steps = _resumed(log)
    print(f"resumed at steps {steps} of 2000")
    assert 0 < steps[0] < steps[1] < 2000
    assert not run.dir.checkpoint("tvae").exists()

    alone = tmp_path / "alone"
    shardsynth("run", make_job(alone, **TRAINING), "--here")
    assert outcome(root) == outcome(alone)


def _preempt(cluster):
    """Take all nodes for a moment."""
    cluster.command("sbatch", "--parsable", "-p", "urgent", "--array=0-3", "-o", "/dev/null", "--wrap", "sleep 1")


def _resumed(log):
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[3]) for line in lines if line.startswith("resumed at step")]
