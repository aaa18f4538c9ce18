"""`shardsynth efficiency`: what each stage asked for against what it used, and what would fit better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from shardsynth.errors import RunError
from shardsynth.executors.slurm.clusters import where_the_run_is
from shardsynth.executors.slurm.commands import SlurmError, SlurmSilentError
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.used import Used, by_accounting, elements_used
from shardsynth.job import STAGES
from shardsynth.models.families import NATIVE
from shardsynth.planning.plan import Plan
from shardsynth.run.rundir import RunDir

#: What the advice adds to the most that was used.
MORE_MEMORY, MORE_TIME = 1.25, 1.5
#: The least that it asks for: a limit under ten minutes saves nothing, and Python with its libraries takes memory.
LEAST_GB, LEAST_MINUTES = 0.5, 10
_GB = 1024.0**3
_LABEL = 22


def efficiency_lines(run: RunDir, plan: Plan) -> list[str]:
    """A table of what was asked for and used, by stage and model, and lines for the job file.

    Args:
        run: The run directory.
        plan: The plan.

    Raises:
        RunError: Nothing has run yet, or the run is another user's.
    """
    run.refuse_of_another()
    accounting, source = _accounting(run)
    elements = elements_used(run, plan, accounting)
    if not elements:
        raise RunError(f"{run.root}: nothing has ended yet; see `shardsynth status {run.root}`")
    groups: dict[tuple[str, str], list[Used]] = {}
    for stage, model, used in sorted(elements, key=lambda one: STAGES.index(one[0])):
        groups.setdefault((stage, model), []).append(used)
    what = "elements" if accounting is not None or any(used.cpus for _, _, used in elements) else "tasks"
    lines = [f"{'':<{_LABEL}} {what:>8} {'CPUs':>12} {'memory GB':>14} {'longest':>20}"]
    for (stage, model), members in groups.items():
        label = f"{stage} {model}".rstrip()
        label = label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"
        lines.append(
            f"{label:<{_LABEL}} {len(members):>8} {_cpus(members):>12} {_memory(members):>14} {_time(members):>20}"
        )
    return [*lines, f"used of asked for, at most, and CPUs on average; {source}", *_advice(plan, groups)]


def _accounting(run: RunDir) -> tuple[dict[tuple[int, int], Used] | None, str]:
    """What the accounting knows, and where the figures are from."""
    ledger = Ledger(run)
    own = "from the run's own records"
    if not ledger.exists:
        return None, f"{own}: it was not submitted to Slurm"
    try:
        with where_the_run_is(ledger):
            known = by_accounting(ledger.read())
    except SlurmSilentError as error:
        return None, f"{own}, without starts, failures and waiting: the accounting is slow ({error}); try again"
    except SlurmError as error:
        return None, f"{own}, without starts, failures and waiting: no accounting ({error})"
    if not known:
        return None, f"{own}, without starts, failures and waiting: the accounting knows no element"
    return known, "from Slurm's accounting, and memory also from the run's own records"


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _cpu_use(members: list[Used]) -> float | None:
    """CPUs at work, on average over the time of all elements."""
    known = [used for used in members if used.cpu_seconds is not None and used.seconds > 0]
    seconds = sum(used.seconds for used in known)
    return sum(used.cpu_seconds or 0.0 for used in known) / seconds if seconds else None


def _cpus(members: list[Used]) -> str:
    return _of(_shown(_cpu_use(members), "{:.1f}"), _shown(_most(used.cpus for used in members), "{:.0f}"))


def _memory(members: list[Used]) -> str:
    peak, asked = _most(used.peak_bytes for used in members), _most(used.bytes_asked for used in members)
    return _of(_shown(peak and peak / _GB, "{:.1f}"), _shown(asked and asked / _GB, "{:.1f}"))


def _time(members: list[Used]) -> str:
    asked = _most(used.seconds_asked for used in members)
    return _of(_clock(max(used.seconds for used in members)), _clock(asked) if asked else "")


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _of(used: str, asked: str) -> str:
    return f"{used or '?'} of {asked}" if asked else used or "?"


def _clock(seconds: float) -> str:
    """Such as ``1:30:00``; from 100 hours on days and hours, ``4d06h``."""
    whole = math.ceil(seconds)
    if whole >= 360_000:
        return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _advice(plan: Plan, groups: dict[tuple[str, str], list[Used]]) -> Iterator[str]:
    """The job file's lines that would fit better: by stage, and by model where several are fitted."""
    stages: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    by_stage: dict[str, list[Used]] = {}
    for (stage, model), members in groups.items():
        if stage == "fit" and len(plan.job.models) > 1:
            trains = NATIVE[plan.job.models[model].model].trains
            better = _better(members, cpus=not trains)
            if better:
                models[model] = {"fit": better}
        else:
            by_stage.setdefault(stage, []).extend(members)
    for stage, members in by_stage.items():
        better = _better(members, cpus=stage != "fit")
        if better:
            stages[stage] = better
    if not stages and not models:
        yield "what was asked for fits"
        return
    yield ""
    yield "these lines of the job file would fit better (a quarter more memory and half more time than was used):"
    yield "cluster:"
    for title, section in (("stages", {k: _flow(v) for k, v in stages.items()}), ("models", _nested(models))):
        if section:
            yield f"  {title}:"
            for name, text in section.items():
                yield f"    {name}: {text}"
    yield "`shardsynth resume RUN --set cluster.stages.STAGE.KEY=VALUE` changes them for what is left of this run"


def _nested(models: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: f"{{fit: {_flow(entry['fit'])}}}" for name, entry in models.items()}


def _flow(entry: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}"


def _better(members: list[Used], *, cpus: bool) -> dict[str, Any]:
    """Resources that would fit better; those that fit are left out.

    Args:
        members: Elements of a stage.
        cpus: Whether other CPUs may be advised: a model's bytes depend on those of a training.
    """
    better: dict[str, Any] = {}
    at_work, had = _cpu_use(members), _most(used.cpus for used in members)
    if cpus and at_work is not None and had is not None and math.ceil(at_work * 1.1) < had:
        better["cpus"] = max(1, math.ceil(at_work * 1.1))
    asked, peak = _most(used.bytes_asked for used in members), _most(used.peak_bytes for used in members)
    if any(used.state == "OUT_OF_MEMORY" for used in members):
        better["mem_gb"] = _rounded(2 * max(asked or 0.0, peak or 0.0) / _GB)
    elif peak is not None:
        wanted = _rounded(MORE_MEMORY * peak / _GB)
        if asked is None or not wanted * 0.8 <= asked / _GB <= wanted * 1.5:
            better["mem_gb"] = wanted
    limit, longest = _most(used.seconds_asked for used in members), max(used.seconds for used in members)
    if had is None:  # tasks of a run on this machine: an element of an array would have several
        return better
    if any(used.state == "TIMEOUT" for used in members):
        better["time"] = f'"{_clock(2 * max(limit or 0.0, longest))}"'
    else:
        most = max(LEAST_MINUTES, 5 * math.ceil(MORE_TIME * longest / 300))
        if limit is None or not most * 48 <= limit <= most * 90:
            better["time"] = f'"{_clock(most * 60)}"'
    return better


def _rounded(gigabytes: float) -> float:
    """Up to the next half."""
    return max(LEAST_GB, math.ceil(2 * gigabytes) / 2)
