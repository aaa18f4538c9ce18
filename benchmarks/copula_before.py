"""The copula's rows per second beside those of an older build, turn by turn, so that a busy machine slows both alike.

usage: python benchmarks/copula_before.py [adult] [mds]     (BEFORE=... names another commit than bb7a604)

Each build fits the copula from the same shards and metadata in a process of its own, on one core. Then the two take
turns at drawing and writing rows. Compared are CPU seconds: the median of the turns.

Bar: at least 90 % of the rows per second of before.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from results import record

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
BEFORE = os.environ.get("BEFORE", "bb7a604")
ROWS, TURNS = 300_000, 9
BAR = 0.9

#: Runs with the benchmarks of its own build: `fit_ours` and `write_ours` are older than both.
_CHILD = """
import json, sys, time
from pathlib import Path
import copula
folder, metadata, target, rows = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3]), int(sys.argv[4])
with copula.one_core():
    copula.fit_ours(folder, metadata)
    started = time.process_time()
    model, _ = copula.fit_ours(folder, metadata)
    print(time.process_time() - started, flush=True)
    copula.write_ours(model, 70_000, target)
    for line in sys.stdin:
        target.unlink()
        started = time.process_time()
        copula.write_ours(model, rows, target)
        print(time.process_time() - started, flush=True)
"""


class Build:
    """A process of one build, with a fitted model.

    Attributes:
        fit: CPU seconds of a fit.
    """

    def __init__(self, source: Path, table: str, metadata: Path, target: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{source / 'src'}:{source / 'benchmarks'}"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _CHILD, str(DATA / table), str(metadata), str(target), str(ROWS)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.fit = self._said()

    def _said(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a build ended with {self._process.wait()}")
        return float(line)

    def turn(self) -> float:
        """CPU seconds of drawing and writing the rows once more."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._said()

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def metadata_of(table: str) -> dict[str, Any]:
    """What today's `init` detects, so that both builds fit the same columns."""
    from copula import profile_of

    from shardsynth.data.detection import detect_with_findings
    from shardsynth.data.shards import open_shards

    dataset = open_shards(str(DATA / table))
    profile = profile_of(dataset)
    return detect_with_findings(profile.sample, profile, dataset.schema)[0]


def compared(table: str, folder: Path, older: Path) -> tuple[str, float]:
    """A line on one table, and today's rows per second as a share of those of before."""
    metadata = folder / f"{table}.json"
    metadata.write_text(json.dumps(metadata_of(table)))
    builds = [
        Build(root, table, metadata, folder / f"{table}-{name}.parquet") for name, root in (("o", older), ("n", ROOT))
    ]
    turns = []
    for number in range(TURNS):
        order = builds if number % 2 else builds[::-1]
        seconds = {build: build.turn() for build in order}
        turns.append([seconds[build] for build in builds])
    before, now = (statistics.median(column) for column in zip(*turns))
    for build in builds:
        build.end()
    line = (
        f"{table:<6} {ROWS / before:12,.0f} {ROWS / now:12,.0f} rows per CPU second, {before / now:6.1%} of before; "
        f"fit {builds[0].fit:.2f} and {builds[1].fit:.2f} CPU s"
    )
    print(line, flush=True)
    return line, before / now


def main() -> None:
    tables = sys.argv[1:] or ["adult", "mds"]
    with tempfile.TemporaryDirectory(prefix="ss-before-") as name:
        folder = Path(name)
        older = folder / "before"
        older.mkdir()
        archive = subprocess.run(
            ["git", "archive", BEFORE, "src", "benchmarks"], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", older], input=archive.stdout, check=True)
        found = [compared(table, folder, older) for table in tables]
    head = f"table  {BEFORE:>12} {'now':>12}   draw and write {ROWS:,} rows on one core, median of {TURNS} turns each"
    good = all(share >= BAR for _, share in found)
    record(
        "copula_before", [head, *(line for line, _ in found), f"bar: at least {BAR:.0%}: {'met' if good else 'MISSED'}"]
    )
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
