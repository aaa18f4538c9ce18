from __future__ import annotations

import os
import re
import time

import pytest
from tests.site.slurm.chaos import play_round
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss
from shardsynth.run.committed import recorded

SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() % 100_000))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_chaos_ends_in_the_undisturbed_bytes(idle, make_job, undisturbed, tmp_path, number):
    print(f"CHAOS_SEED={SEED + number}")
    root = tmp_path / "run"
    play_round(idle, make_job(root), root, undisturbed, SEED + number)


PARTS = 1000


def long_sampling(make_job, root, **stage):
    """One element of a thousand parts: a minute of work even for a fast machine, which no test waits for."""
    return make_job(
        root,
        sample={"rows": 40_000 * PARTS, "rows_per_shard": 40_000, "tasks": PARTS},
        cluster={"pack": PARTS, "stages": {"sample": stage} if stage else {}},
    )


@pytest.mark.parametrize(
    ("where", "who_requeues"),
    [({}, "Slurm"), ({"partition": "gpu", "gres": "gpu:a100:1"}, "the batch script")],
    ids=["requeue without grace", "cancel after a grace"],
)
def test_a_sampling_element_pre_empted_twice_keeps_its_parts(idle, make_job, tmp_path, where, who_requeues):
    root = tmp_path / "run"
    shardsynth("submit", long_sampling(make_job, root, **where))
    run = ss.Run(root)

    def done():
        found = recorded(run.dir, run.plan)["sample"]
        return {index: run.dir.record("sample", index).stat().st_mtime_ns for index in found}

    kept = {}
    for _ in range(2):
        wanted = len(kept) + 5
        wait_until(f"{wanted} parts", lambda wanted=wanted: len(done()) >= wanted, 60, 0.05)
        kept.update(done())
        urgent = idle.command(
            "sbatch", "--parsable", "-p", "urgent", "-N4", "-o", "/dev/null", "--wrap", "sleep 1"
        ).strip()
        wait_until(
            "the urgent job",
            lambda urgent=urgent: idle.command("squeue", "-h", "-j", urgent, check=False) == "",
            60,
            0.2,
        )
        idle.start_soon()
        kept.update(done())
        assert len(kept) < PARTS, "it was over before it could be pre-empted"

    def log():
        return "".join(p.read_text() for p in (root / "private/slurm/submitit").glob("*.out"))

    wait_until("the second restart", lambda: "started again by Slurm (restart 2)" in log(), 90, 0.3)
    wait_until("parts after it", lambda: len(done()) >= len(kept) + 5, 90, 0.3)
    run.cancel()
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60, 0.2)
    assert {index: done()[index] for index in kept} == kept, f"parts were made again ({who_requeues} requeues)"
    assert ("saved: queued again" in log()) == (who_requeues == "the batch script")
    first = {p.name: p.read_bytes() for p in (root / "samples/gaussian_copula").glob("part-*.parquet")}
    assert len(first) == len(done())
    for index in (min(done()), max(done())):
        (root / f"samples/gaussian_copula/part-{index:05d}.parquet").unlink()
        shardsynth("task", root, "sample", index, "--here")
    assert {p.name: p.read_bytes() for p in (root / "samples/gaussian_copula").glob("part-*.parquet")} == first


def test_scancel_saves_and_is_never_queued_again(idle, make_job, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", long_sampling(make_job, root))
    run = ss.Run(root)
    wait_until("five parts", lambda: len(recorded(run.dir, run.plan)["sample"]) >= 5, 60, 0.05)
    shardsynth("cancel", root)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 30, 0.2)
    time.sleep(2)
    assert idle.command("squeue", "-h") == ""
    done = len(recorded(run.dir, run.plan)["sample"])
    assert 5 <= done < PARTS
    said = shardsynth("status", root)
    assert "cancelled" in said and "nothing is queued: shardsynth resume" in said
    said = shardsynth("resume", root)
    assert f"sample gaussian_copula: {PARTS - done} tasks in 1 elements" in said
    assert re.match(r"nothing to submit: \d+ tasks are queued or running", shardsynth("resume", root))
    shardsynth("cancel", root)
