"""What happens to a run on a bad day, from a printed seed; tests play 3 rounds of it, benchmarks/chaos.py 20."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time

from tests.site.slurm.cluster import NODES, PATIENCE
from tests.site.slurm.runs import SHARDSYNTH, element_processes, outcome, shardsynth

import shardsynth as ss
from shardsynth.executors.status import read_status


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
            self.time_limit,
        ]

    def play(self, acts=4):
        for act in self.random.sample(self.acts, acts):
            time.sleep(self.random.uniform(0.2, 2.5))
            print(f"  {act.__name__}: {act()}", flush=True)

    def kill_tasks(self):
        victims = element_processes(self.root)
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
            done = subprocess.run([*SHARDSYNTH, "resume", str(self.root)], capture_output=True, text=True, check=False)
            said.append((done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1:]))

        threads = [threading.Thread(target=resume) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return said

    def time_limit(self):
        """A running element's limit is now."""
        running = self.cluster.command("squeue", "-h", "--array", "-t", "RUNNING", "-o", "%A", check=False).split()
        if not running:
            return None
        victim = self.random.choice(running)
        self.cluster.command("scontrol", "update", f"jobid={victim}", "endtime=now", check=False)
        return victim

    def preempt(self):
        return self.cluster.command(
            "sbatch", "--parsable", "-p", "urgent", "--array=0-3", "-o", "/dev/null", "--wrap", "sleep 1"
        ).strip()


def _settled(run):
    quiet = 0
    end = time.monotonic() + PATIENCE * 150
    while quiet < 2:
        status = read_status(run.dir, run.plan)
        quiet = 0 if status.live else quiet + 1
        assert time.monotonic() < end, "the run does not come to rest"
        time.sleep(0.5)
    return status


def play_round(cluster, job, root, undisturbed, seed, acts=4):
    """One job from `submit` to the undisturbed bytes, with acts of chaos in between."""
    shardsynth("submit", job)
    run = ss.Run(root)
    chaos = Chaos(cluster, root, seed)
    chaos.play(acts)
    for _ in range(10):
        status = _settled(run)
        said = shardsynth("resume", root)
        print(f"  settled with {sum(s.done for s in status.stages.values())} done; resume: {said.splitlines()[0]}")
        if "all done" in said:
            break
    found = outcome(root)
    assert found == undisturbed, f"CHAOS_SEED={seed}: {sorted(set(found.items()) ^ set(undisturbed.items()))[:4]}"
