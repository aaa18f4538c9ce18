from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.slurm.cluster import NODES, wait_until
from tests.slurm.runs import outcome, shardsynth

import shardsynth as ss
from shardsynth.pipeline.lifecycle import read_status, recorded

SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() % 100_000))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))


class Chaos:
    """What happens to a run on a bad day; every act is printed."""

    def __init__(self, cluster, root, seed):
        self.cluster, self.root = cluster, root
        self.random = random.Random(seed)
        self.acts = [
            self.kill_tasks,
            self.scancel_elements,
            self.lose_node,
            self.restart_controller,
            self.delete_part,
            self.resume_twice_at_once,
            self.preempt,
        ]

    def play(self, acts=4):
        for act in self.random.sample(self.acts, acts):
            time.sleep(self.random.uniform(0.2, 2.5))
            print(f"  {act.__name__}: {act()}", flush=True)

    def processes(self):
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if "shardsynth.pipeline.element" in words and str(self.root) in words:
                    found.append(int(folder.name))
        return found

    def kill_tasks(self):
        victims = self.processes()
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return victims

    def scancel_elements(self):
        queued = self.cluster.command("squeue", "-h", "--array", "-o", "%i").split()
        chosen = self.random.sample(queued, min(3, len(queued)))
        if chosen:
            self.cluster.command("scancel", *chosen, check=False)
        return chosen

    def lose_node(self):
        """A power cut, or a network that is gone: in the second case the lost attempt goes on and commits late."""
        node = self.random.choice(NODES)
        cut = self.random.random() < 0.5
        self.cluster.lose_node(node, with_tasks=cut)
        time.sleep(self.random.uniform(0.5, 4))
        self.cluster.start_node(node)
        return f"{node}, {'its tasks, too' if cut else 'its tasks go on'}"

    def restart_controller(self):
        self.cluster.stop_controller()
        time.sleep(self.random.uniform(0, 1))
        self.cluster.start_controller()

    def delete_part(self):
        parts = sorted((self.root / "samples").rglob("part-*.parquet"))
        if not parts:
            return None
        victim = self.random.choice(parts)
        victim.unlink(missing_ok=True)
        return victim.name

    def resume_twice_at_once(self):
        said = []

        def resume():
            from tests.slurm.runs import SHARDSYNTH

            done = subprocess.run([*SHARDSYNTH, "resume", str(self.root)], capture_output=True, text=True, check=False)
            said.append((done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1:]))

        threads = [threading.Thread(target=resume) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return said

    def preempt(self):
        return self.cluster.command(
            "sbatch", "--parsable", "-p", "urgent", "--array=0-3", "-o", "/dev/null", "--wrap", "sleep 1"
        ).strip()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_chaos_ends_in_the_undisturbed_bytes(idle, make_job, undisturbed, tmp_path, number):
    seed = SEED + number
    print(f"CHAOS_SEED={seed}")
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    run = ss.Run(root)
    Chaos(idle, root, seed).play()
    for _ in range(8):
        status = _settled(run)
        said = shardsynth("resume", root)
        print(f"  settled with {sum(s.done for s in status.stages.values())} done; resume: {said.splitlines()[0]}")
        if "all done" in said:
            break
    assert outcome(root) == undisturbed, f"CHAOS_SEED={seed}"
    manifest = run.samples("gaussian_copula").manifest
    assert len(manifest["parts"]) == 30 and run.quality("gaussian_copula").score > 0.8
    assert not list(root.rglob(".part-*.tmp")) or "leftovers of killed attempts are `clean`'s"


def _settled(run):
    quiet = 0
    end = time.monotonic() + 150
    while quiet < 2:
        status = read_status(run.dir, run.plan)
        quiet = 0 if status.live else quiet + 1
        assert time.monotonic() < end, "the run does not come to rest"
        time.sleep(0.5)
    return status


def long_sampling(make_job, root, **stage):
    """One element of a hundred parts, some seconds of work."""
    return make_job(
        root,
        sample={"rows": 4_000_000, "rows_per_shard": 40_000},
        cluster={"pack": 1000, "stages": {"sample": stage} if stage else {}},
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
        return recorded(run.dir, run.plan)["sample"]

    kept = {}
    for wanted in (5, 40):
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
        assert len(done()) < 100, "it was over before it could be pre-empted"
    wait_until("all parts", lambda: len(done()) == 100, 90, 0.3)
    assert {index: done()[index] for index in kept} == kept, f"parts were made again ({who_requeues} requeues)"
    run.cancel()
    log = "".join(p.read_text() for p in (root / "private/slurm/logs").glob("*.log"))
    assert "started again by Slurm (restart 2)" in log
    assert ("saved: queued again" in log) == (who_requeues == "the batch script")
    first = {p.name: p.read_bytes() for p in (root / "samples/gaussian_copula").glob("part-*.parquet")}
    assert len(first) == 100
    for name in ("part-00004.parquet", "part-00050.parquet"):
        (root / "samples/gaussian_copula" / name).unlink()
    for index in (4, 50):
        shardsynth("task", root, "sample", index)
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
    assert 5 <= done < 100
    said = shardsynth("status", root)
    assert "cancelled" in said and "nothing is queued: shardsynth resume" in said
    said = shardsynth("resume", root)
    assert f"sample gaussian_copula: {100 - done} tasks in 1 elements" in said
    assert re.match(r"nothing to submit: \d+ tasks are queued or running", shardsynth("resume", root))
    shardsynth("cancel", root)
