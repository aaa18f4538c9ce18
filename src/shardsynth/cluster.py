"""The section `cluster` of a job file: where the tasks run, and with which resources."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import re
from typing import Any, Dict, Literal, Optional, Union

from pydantic import Field, field_validator

from shardsynth.errors import did_you_mean
from shardsynth.options import Options, row_count

#: The stages of a run, in order.
#: Stages that only a job of several tables has: they bring the rows of each subject together.
GATHERING = ("partition", "gather", "gather_merge")
#: The stages of a job of one table.
ONE_TABLE = ("profile", "profile_merge", "count", "count_merge", "fit", "sample", "score", "merge", "report")
STAGES = (*GATHERING, *ONE_TABLE)


class Resources(Options):
    """Resources of the tasks of one stage."""

    cpus: Optional[int] = Field(
        None,
        ge=1,
        description="CPUs of one task. Of `fit` also the threads of a training, on which a model's bytes depend. Where nothing says "
        "it, a fit on Slurm has 4, or fewer where a node of its partition has fewer; a local one its share of this machine's. "
        "A local run reads only `stages.fit.cpus`.",
    )
    mem_gb: Optional[float] = Field(None, gt=0, description="Memory of one task in GB (Slurm).")
    gpus: Optional[Union[int, str]] = Field(None, description="GPUs of one task, a number or Slurm's `a100:1` (Slurm).")
    time: Optional[str] = Field(
        None, description="Time limit as Slurm reads it: minutes, or such as `4:00:00` or `2-12:00:00` (Slurm)."
    )
    partition: Optional[str] = Field(None, description="Partition (Slurm).")
    account: Optional[str] = Field(None, description="Account that is charged (Slurm).")
    qos: Optional[str] = Field(None, description="Quality of service (Slurm).")
    constraint: Optional[str] = Field(None, description="Node features, such as `icelake` (Slurm).")
    gres: Optional[str] = Field(None, description="Generic resources, such as `gpu:a100:1`, instead of `gpus` (Slurm).")
    options: Dict[str, Union[str, int, float, bool]] = Field(
        default_factory=dict,
        description="Any other sbatch option by its long name without dashes, such as `reservation: course`; `true` for "
        "one without a value (Slurm).",
    )

    @field_validator("time", mode="before")
    @classmethod
    def _minutes(cls, value: Any) -> Any:
        """Whole minutes may be a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Cluster(Options):
    """Where the tasks run."""

    executor: Literal["auto", "local", "submitit", "slurm", "debug"] = Field(
        "auto",
        description="`local`: our own pool of worker processes, one per core; `submitit`: submitit's local executor; "
        "`debug`: submitit's debug executor, in this process; `slurm`: Slurm arrays, by `submit` alone; `auto`: local.",
    )
    workers: Optional[int] = Field(
        None, ge=1, description="CPUs to use on this machine (default: those this process may use)."
    )
    rows_per_task: int = Field(
        2_000_000,
        ge=1,
        description="Input rows that one profile or count task reads, at most one shard's row groups apart.",
    )
    profile: Optional[str] = Field(None, description="Site profile (Slurm).")
    container: Optional[str] = Field(None, description="Apptainer image that tasks run in (Slurm).")
    stages: Dict[str, Resources] = Field(default_factory=dict, description="Resources by stage name.")
    models: Dict[str, Dict[str, Resources]] = Field(
        default_factory=dict,
        description="Resources by model name, then stage name, for a model that needs others than the rest (Slurm).",
    )
    defaults: Resources = Field(
        Resources(), description="Resources of every stage that does not say otherwise (Slurm)."
    )
    pack: Union[int, Literal["auto"]] = Field(
        "auto", description="Tasks of one array element; `auto` aims at about 20 minutes an element (Slurm)."
    )
    throttle: Optional[int] = Field(
        None,
        ge=1,
        description="Most elements at work at once, of each stage and model; such as Slurm's `--array=0-9%2` (Slurm).",
    )
    retry: Dict[Literal["oom", "time"], Dict[Literal["mem_gb", "time"], str]] = Field(
        default_factory=dict,
        description="What `resume` asks for after a failure, such as `oom: {mem_gb: x2}` or `time: {time: x2}` (Slurm).",
    )
    max_requeues: int = Field(
        5, ge=1, description="How often an element is started again although it has finished nothing more (Slurm)."
    )

    @field_validator("rows_per_task", mode="before")
    @classmethod
    def _row_count(cls, value: Any) -> Any:
        return row_count(value)

    @field_validator("pack")
    @classmethod
    def _positive_pack(cls, value: Any) -> Any:
        if value != "auto" and value < 1:
            raise ValueError("wanted a number of tasks from 1, or `auto`")
        return value

    @field_validator("retry")
    @classmethod
    def _factors(cls, value: Any) -> Any:
        for cause, changes in value.items():
            for key, factor in changes.items():
                if not re.match(r"^x\d+(\.\d+)?$", factor) or float(factor[1:]) < 1:
                    raise ValueError(f"{cause}.{key}: wanted a factor such as `x2`, found {factor!r}")
        return value

    @field_validator("models")
    @classmethod
    def _stages_of_models(cls, value: Any) -> Any:
        for stages in value.values():
            cls._stage_names(stages)
        return value

    @field_validator("stages")
    @classmethod
    def _stage_names(cls, value: dict[str, Resources]) -> dict[str, Resources]:
        for name in value:
            if name not in STAGES:
                raise ValueError(f"no stage is called {name!r}{did_you_mean(name, STAGES)}")
        return value
