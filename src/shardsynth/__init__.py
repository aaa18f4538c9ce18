"""Synthetic tables from sharded Parquet, on Slurm and GPU clusters, with SDV's models.

The names below are imported when first used: importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardsynth._version import __version__

_HOMES = {
    "Job": "shardsynth.job",
    "Model": "shardsynth.api",
    "Result": "shardsynth.commands.synthesize",
    "Run": "shardsynth.api",
    "elements": "shardsynth.api",
    "load_model": "shardsynth.api",
    "plan_job": "shardsynth.api",
    "run_element": "shardsynth.executors.slurm.pickled",
    "run_job": "shardsynth.api",
    "submit": "shardsynth.api",
    "synthesize": "shardsynth.commands.synthesize",
}

if TYPE_CHECKING:
    from shardsynth.api import Model, Run, elements, load_model, plan_job, run_job, submit
    from shardsynth.commands.synthesize import Result, synthesize
    from shardsynth.executors.slurm.pickled import run_element
    from shardsynth.job import Job

__all__ = [
    "Job",
    "Model",
    "Result",
    "Run",
    "__version__",
    "elements",
    "load_model",
    "plan_job",
    "run_element",
    "run_job",
    "submit",
    "synthesize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shardsynth' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
