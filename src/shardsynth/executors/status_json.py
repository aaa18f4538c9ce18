"""A run's status as one JSON object, for scripts; docs/developer/formats.md describes it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from shardsynth.executors.status import RunStatus
from shardsynth.executors.watch import failures, waits
from shardsynth.planning.plan import Plan
from shardsynth.run.rundir import RunDir


def status_record(run: RunDir, plan: Plan, status: RunStatus) -> dict[str, Any]:
    """A status as plain data.

    Args:
        run: The run directory.
        plan: The plan.
        status: The run's status.
    """
    return {
        "run": str(run.root.absolute()),
        "submitted": status.submitted,
        "done": status.done,
        "live": status.submitted and status.live,
        "blocked": status.blocked,
        "answered": status.answered,
        "message": status.message,
        "stages": {name: dataclasses.asdict(stage) for name, stage in status.stages.items()},
        "failures": [dataclasses.asdict(failure) for failure in failures(plan, status)],
        "waits": [dataclasses.asdict(wait) for wait in waits(plan, status)],
        "unsubmitted": status.unsubmitted,
    }


def print_changes(run: RunDir, plan: Plan) -> Callable[[RunStatus], None]:
    """A ``show`` for `watch.wait` that prints each status that differs from the one before, as a line of JSON."""
    shown = ""

    def show(status: RunStatus) -> None:
        nonlocal shown
        line = json.dumps(status_record(run, plan, status), ensure_ascii=False)
        if line != shown:
            shown = line
            print(line, flush=True)

    return show
