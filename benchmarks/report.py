"""What the evidence costs beyond the fits: sampling, scoring, judging and the page, on two processes.

usage: python benchmarks/report.py [mds] [adult]      (needs ../shared/data)

Each run is taken to its end once (fits of a few epochs), its samples, figures and page are deleted, and `resume` makes
them again: that is timed, with the largest resident set of any process. Bars: the four models on the
myelodysplastic-syndrome table in 120 s; a million synthetic Adult rows in 180 s and 3 GB a process.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import record

DATA = Path(__file__).parents[2] / "shared" / "data"
CASES = {
    "mds": (
        {
            "models": {
                "gaussian_copula": {},
                "tvae": {"epochs": 2},
                "ctgan": {"epochs": 2},
                "copulagan": {"epochs": 2},
            },
            "evaluate": {"target": "OS_STATUS", "survival": {"time": "OS_YEARS", "event": "OS_STATUS"}},
        },
        120,
    ),
    "adult": (
        {"models": {"gaussian_copula": {}}, "sample": {"rows": "1e6"}, "evaluate": {"target": "income"}},
        180,
    ),
}
MOST_GB = 3.0


def main() -> int:
    lines = [f"{'case':8} {'seconds':>8} {'bar':>5} {'peak GB':>8}   seconds of work by stage"]
    failed = 0
    for name in sys.argv[1:] or CASES:
        job, bar = CASES[name]
        with tempfile.TemporaryDirectory() as temporary:
            run, file = Path(temporary) / "run", Path(temporary) / "job.json"
            file.write_text(json.dumps({"input": str(DATA / name), "output": str(run), **job}))
            command = [sys.executable, "-c", "from shardsynth.cli import main; main()"]
            subprocess.run([*command, "run", str(file)], check=True, stdout=subprocess.DEVNULL)
            for folder in ("samples", "metrics", "report"):
                shutil.rmtree(run / folder)
            started = time.monotonic()
            subprocess.run([*command, "resume", str(run)], check=True, stdout=subprocess.DEVNULL)
            took = time.monotonic() - started
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            failed += took > bar or peak > MOST_GB
            lines.append(f"{name:8} {took:8.1f} {bar:5} {peak:8.2f}   {_stages(run)}")
    record("report", lines)
    return int(failed > 0)


def _stages(run: Path) -> str:
    from shardsynth.run.artifacts import Artifacts

    artifacts = Artifacts(run)
    found = []
    for stage in ("sample", "score", "merge", "report"):
        records = [artifacts.run.last_record(stage, task.index) for task in artifacts.plan.tasks[stage]]
        found.append(f"{stage} {sum(r['seconds'] for r in records if r):.1f}")
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
