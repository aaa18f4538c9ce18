"""A worker process of the embedded executor: reads one JSON line per task, runs it, answers with one line."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from shardsynth.errors import Saved


def main() -> None:
    """Serve tasks until the parent closes standard input."""
    answers = os.fdopen(os.dup(1), "wb")  # the tasks' own prints go to their logs, not to the parent
    root = Path(sys.argv[1])
    debug = "--debug" in sys.argv[2:]
    os.dup2(2, 1)
    from shardsynth.stages.task import TaskRunner
    from shardsynth.standalone import signals as stopping

    stopping.follow_parent()
    runner = TaskRunner(root)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _answer(answers, _serve(runner, request["stage"], request["index"], answers, debug))
        except BrokenPipeError:  # the parent was killed: what is committed stays
            os._exit(1)


def _serve(runner: Any, stage: str, index: int, answers: BinaryIO, debug: bool) -> dict[str, Any]:
    from shardsynth.stages.task import run_logged
    from shardsynth.standalone import signals as stopping

    if stage == "fit":  # a training saves its state where any other task is just started again
        stopping.install(grace=8)
    last = time.monotonic()

    def progress(rows: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            _answer(answers, {"progress": rows})

    answer = run_logged(runner, stage, index, progress=progress, debug=debug)
    if stopping.asked():
        sys.exit(Saved.exit_code)
    stopping.uninstall()
    return answer


def _answer(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode("utf-8") + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
