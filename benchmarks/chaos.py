"""Twenty jobs on a Slurm of four nodes, each through a bad day; each must end with the undisturbed run's bytes.

Tasks are killed, elements cancelled, nodes lost with and without what they run, slurmctld restarted, partitions
pre-empted, time limits hit, committed parts deleted, and `resume` is typed twice at once while arrays run; then
`resume` until all is done. A round that fails is played again by CHAOS_SEED=... CHAOS_ROUNDS=1. Needs root and Debian's
Slurm packages (slurm/README.md).

Bar: every round ends byte-identical.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from results import record

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.site.slurm.chaos import play_round
from tests.site.slurm.cluster import leave_without_slurm, running
from tests.site.slurm.runs import outcome, shardsynth, write_job, write_small_shards

ACTS = 5


def main() -> None:
    leave_without_slurm()
    seed = int(os.environ.get("CHAOS_SEED", time.time_ns() % 100_000))
    rounds = int(os.environ.get("CHAOS_ROUNDS", "20"))
    lines = [f"seed {seed}, {rounds} rounds of {ACTS} acts", "", f"{'seed':>8} {'seconds':>8}  outcome"]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="ss-chaos-") as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        shards = write_small_shards(folder / "shards")
        shardsynth("run", write_job(folder / "job.yaml", shards, folder / "undisturbed"), "--here")
        undisturbed = outcome(folder / "undisturbed")
        with running(folder / "slurm") as cluster:
            for number in range(rounds):
                root = folder / f"run-{number}"
                print(f"CHAOS_SEED={seed + number}", flush=True)
                started = time.monotonic()
                try:
                    play_round(
                        cluster, write_job(folder / "job.yaml", shards, root), root, undisturbed, seed + number, ACTS
                    )
                    said = "byte-identical"
                except Exception as error:  # the next rounds are still worth playing
                    said, failed = f"FAILED: {type(error).__name__}: {error}", failed + 1
                lines.append(f"{seed + number:>8} {time.monotonic() - started:>8.0f}  {said}")
                cluster.reset()
    lines += ["", f"{rounds - failed} of {rounds} rounds byte-identical"]
    record("chaos", lines)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
