"""A worker process of the local executor: it reads a JSON line per task, runs the task and answers with a JSON line."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from shardsynth.errors import Saved
from shardsynth.standalone import signals


def main() -> None:
    """Serve tasks until the parent closes standard input."""
    # Standard output is for answers alone: what libraries print, also while they are imported, goes elsewhere.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from shardsynth.stages.task import TaskRunner

    root = Path(sys.argv[1])
    debug = "--debug" in sys.argv[2:]
    signals.follow_parent()
    runner = TaskRunner(root)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _answer(answers, _serve(runner, request["stage"], request["index"], answers, debug))
        except BrokenPipeError:  # the parent was killed: what is committed stays
            os._exit(1)


def _serve(runner: Any, stage: str, index: int, answers: BinaryIO, debug: bool) -> dict[str, Any]:
    from shardsynth.stages.task import run_logged

    if stage == "fit":  # a training saves its state; any other task simply starts again
        signals.install(grace=8)
    last = time.monotonic()

    def progress(rows: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            _answer(answers, {"progress": rows})

    answer = run_logged(runner, stage, index, progress=progress, debug=debug)
    if signals.asked():
        sys.exit(Saved.exit_code)
    signals.uninstall()
    return answer


def _answer(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode("utf-8") + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
