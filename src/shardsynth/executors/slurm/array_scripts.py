"""The batch script of an array of a run: what it asks for, its text, and whether Slurm would take it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.executors.slurm.checks import check_script
from shardsynth.executors.slurm.container import container_of
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.limits import Limits
from shardsynth.executors.slurm.packing import Array
from shardsynth.executors.slurm.preemption import needs_listener
from shardsynth.executors.slurm.retry import is_more
from shardsynth.executors.slurm.script import array_script, options, start_lines
from shardsynth.executors.slurm.sick_nodes import nodes_left_out, without_nodes
from shardsynth.executors.slurm.site import Site, resources
from shardsynth.job import Resources
from shardsynth.planning.plan import Plan
from shardsynth.run.rundir import RunDir


@dataclass(frozen=True)
class Script:
    """What the batch script of an array is written from.

    Attributes:
        array: The array.
        name: Its job name.
        asked: Resources that it asks for.
        lines: Options of sbatch for them.
        start: Lines that set the shell array ``python``.
        listen: Whether a step listens for pre-emptions.
        at_once: How many of its elements may work at once; None for all.
    """

    array: Array
    name: str
    asked: Resources
    lines: list[str]
    start: list[str]
    listen: bool
    at_once: int | None


def script_of(
    plan: Plan, site: Site, limits: Limits, root: Path, array: Array, name: str, more_of: dict[str, Any]
) -> Script:
    """The script of an array; ``more_of`` are resources that `cluster.retry` raises."""
    asked = resources(site, plan.job.cluster, array.stage, array.model)
    if asked.time is None:  # asked for by its number, so that the element is told before it and `retry` can raise it
        asked = asked.model_copy(update={"time": limits.time_of(asked)})
    asked = asked.model_copy(update={key: more for key, more in more_of.items() if is_more(key, more, asked)})
    asked = without_nodes(asked, nodes_left_out(Ledger(RunDir(root))))
    threads = max(plan.tasks[array.stage][index].threads for element in array.elements for index in element)
    container = container_of(site, plan.image, plan, root, gpus=bool(asked.gpus or asked.gres))
    start = start_lines(site, container)
    lines = options(asked, threads, site.mail, whole_node=limits.whole_node(asked))
    return Script(array, name, asked, lines, start, needs_listener(asked), plan.job.cluster.throttle)


def parameters_of(script: Script, after: list[str], site: Site) -> dict[str, Any]:
    """Parameters of `array_script`, without the number of elements and the run."""
    return {
        "name": script.name,
        "after": after,
        "lines": script.lines,
        "start": script.start,
        "setup": site.setup,
        "listen": script.listen,
        "at_once": script.at_once,
    }


def text_of(script: Script, after: list[str], site: Site, root: Path) -> str:
    """The script's text; ``after`` is what it waits for, such as ``afterok:12``."""
    return array_script(**parameters_of(script, after, site), elements=len(script.array.elements), run=root)


def check_arrays(
    plan: Plan, site: Site, limits: Limits, root: Path, arrays: list[Array], say: Any = lambda line: None
) -> None:
    """Ask Slurm whether it would take every array; SlurmError if it would refuse one."""
    checked: set[tuple[str, ...]] = set()
    for array in arrays:
        script = script_of(plan, site, limits, root, array, "shardsynth-check", {})
        key = (str(len(array.elements)), *script.lines)
        if key not in checked:
            checked.add(key)
            warning = check_script(text_of(script, [], site, root))
            if warning:
                say(f"warning: {array.stage}: {warning}")
