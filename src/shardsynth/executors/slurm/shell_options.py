"""What the login shell asks of sbatch (SBATCH_ACCOUNT and the like), for what the job and the site file leave open.

A run keeps the variables that it was submitted with: `resume` from a shell without them bills the same account.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shardsynth.errors import InputError, JobError
from shardsynth.executors.slurm.site import Site
from shardsynth.executors.slurm.times import minutes
from shardsynth.job import Cluster, Resources
from shardsynth.standalone.files import read_json, write_json

#: Variables of sbatch(1) that a run takes over: the key of `Resources`, or the option, that they stand for.
_KEYS = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_GRES": "gres",
    "SBATCH_GPUS": "gpus",
    "SBATCH_GPUS_PER_NODE": "gpus",
    "SBATCH_GPUS_PER_TASK": "gpus",
    "SBATCH_MEM_PER_NODE": "mem_gb",
}
_OPTIONS = {
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_WCKEY": "wckey",
    "SBATCH_MEM_PER_CPU": "mem-per-cpu",
    "SBATCH_EXCLUSIVE": "exclusive",
    "SBATCH_HINT": "hint",
    "SBATCH_CORE_SPEC": "core-spec",
    "SBATCH_THREADS_PER_CORE": "threads-per-core",
    "SBATCH_CPU_FREQ_REQ": "cpu-freq",
    "SBATCH_NETWORK": "network",
    "SBATCH_PRIORITY": "priority",
    "SBATCH_BURST_BUFFER": "bb",
    "SBATCH_GPU_BIND": "gpu-bind",
    "SBATCH_GPU_FREQ": "gpu-freq",
    "SBATCH_DELAY_BOOT": "delay-boot",
}
#: These choose the cluster: see clusters.py.
_ELSEWHERE = ("SBATCH_CLUSTERS",)
_MEGABYTES = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def shell_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of sbatch that are set in this shell, name -> value."""
    names = sorted(name for name in environment if name.startswith("SBATCH_") and name not in _ELSEWHERE)
    return {name: environment[name] for name in names if environment[name].strip()}


def variables_of_run(folder: Path) -> dict[str, str]:
    """The variables that a run was submitted with, and over them those that are set now.

    Args:
        folder: ``private/slurm`` of the run; it need not exist.
    """
    try:
        kept = {str(name): str(value) for name, value in read_json(_file(folder)).items()}
    except (OSError, ValueError, AttributeError, InputError):
        kept = {}
    return {**kept, **shell_variables()}


def keep_variables(folder: Path, variables: Mapping[str, str]) -> None:
    """Write down the variables of a run; nothing is written if there are none."""
    if variables or _file(folder).exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(_file(folder), dict(variables))


def _file(folder: Path) -> Path:
    return folder / "shell.json"


def with_shell(site: Site, cluster: Cluster, variables: Mapping[str, str]) -> tuple[Site, list[str]]:
    """The site file with what the shell says under its defaults: whatever job or site file name wins.

    Args:
        site: The site file.
        cluster: The job's section ``cluster``.
        variables: Variables of sbatch.

    Returns:
        The site, and a line for people where a variable is used or left out.

    Raises:
        JobError: A variable has no value that sbatch would take.
    """
    used, unused = [], []
    layer: dict[str, Any] = {}
    options: dict[str, Any] = {}
    everywhere = [site.defaults, cluster.defaults]  # what these name holds for every stage
    layers = [*everywhere, *site.stages.values(), *cluster.stages.values()]
    layers += [asked for stages in cluster.models.values() for asked in stages.values()]
    for variable, value in variables.items():
        key, option = _KEYS.get(variable), _OPTIONS.get(variable)
        said = any(_names(asked, key, option) for asked in everywhere)
        if variable == "SBATCH_MEM_PER_CPU":  # sbatch takes only one of --mem and --mem-per-cpu
            said = said or "mem_gb" in layer or any(_names(asked, "mem_gb", None) for asked in layers)
        if key is None and option is None:
            unused.append(f"{variable} (the script says that itself)")
        elif said:
            unused.append(f"{variable} (the job or the site file says otherwise)")
        elif key == "mem_gb" and value.strip() == "0":  # all memory of the node
            options["mem"] = "0"
            used.append(f"{variable}={value}")
        elif key is not None:
            layer.setdefault(key, _value(variable, key, value))
            used.append(f"{variable}={value}")
        elif option is not None:
            options[option] = (
                True if option == "exclusive" and value.lower() in ("", "1", "yes", "exclusive") else value
            )
            used.append(f"{variable}={value}")
    lines = list(_lines(used, unused))
    if not used:
        return site, lines
    named = site.defaults.model_dump(exclude_none=True)
    merged = {**layer, **named, "options": {**options, **named.get("options", {})}}
    return site.model_copy(update={"defaults": Resources.model_validate(merged)}), lines


def _lines(used: list[str], unused: list[str]) -> Iterator[str]:
    if used:
        yield f"from the shell, where job and site file say nothing: {', '.join(used)}"
    if unused:
        yield f"in the shell, but not used: {', '.join(unused)}"


def _names(asked: Resources, key: str | None, option: str | None) -> bool:
    """Whether resources name a key or an option themselves."""
    if key is None:
        return option in asked.options
    return getattr(asked, key) is not None or (key == "gpus" and asked.gres is not None)


def _value(variable: str, key: str, value: str) -> Any:
    """A variable's value as the key of a job file has it."""
    value = value.strip()
    if key == "time":
        try:
            minutes(value)
        except JobError as error:
            raise JobError(f"{variable}: {str(error).removeprefix('time: ')}; or unset it") from None
    if key == "mem_gb":
        match = re.fullmatch(r"(\d+)([KMGT]?)B?", value.upper())
        if match is None:
            raise JobError(f"{variable}: {value!a} is not a size such as 4000 or 4G; or unset it")
        megabytes = int(match[1]) * _MEGABYTES[match[2]]
        return max(megabytes, 1.0) / 1024
    return value
