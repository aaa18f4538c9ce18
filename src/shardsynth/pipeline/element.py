"""``python -m shardsynth.pipeline.element``, as queued jobs, older scripts and older images call it."""

from __future__ import annotations

from runpy import run_module

if __name__ == "__main__":
    run_module("shardsynth.executors.slurm.element", run_name="__main__", alter_sys=True)
