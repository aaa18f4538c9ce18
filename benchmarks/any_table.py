"""500 random tables of 0 to 2,000 rows through the whole default job, with the copula and a short training.

usage: python benchmarks/any_table.py [TABLES [SEED]]      (default: 500 0)

Bar: no stage fails on a table that planned; a table that is refused is refused in one sentence, before anything is fitted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the tables are small

import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from results import record

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tables.any_table import PLANS, TablePlan
from tests.tables.whole_job import MODELS, plan_default_job, run_all_tasks

from shardsynth.errors import InputError


def main() -> int:
    """Run the tables; the failures are printed with the plan that makes their table again."""
    tables, first_seed = (int(a) for a in (sys.argv[1:] + ["500", "0"][len(sys.argv[1:]) :]))
    ends: Counter[str] = Counter()
    failures: list[str] = []
    started = time.monotonic()

    @seed(first_seed)
    @settings(
        max_examples=tables, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(PLANS)
    def each(plan: TablePlan) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = plan_default_job(plan.table(), Path(folder), plan.shards)
            except InputError:
                ends["without rows, refused" if plan.rows == 0 else "refused while planning"] += 1
                return
            try:
                run_all_tasks(run)
                rows = [run.samples(name).to_table().num_rows for name in MODELS]
                assert rows == [plan.rows] * len(rows), f"{rows} rows"
                ends["done"] += 1
            except Exception as error:
                ends["failed"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                failures.append(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {plan}")
                print(failures[-1], flush=True)
            if sum(ends.values()) % 50 == 0:
                print(f"{sum(ends.values())} of {tables} tables, {time.monotonic() - started:.0f} s", flush=True)

    each()
    lines = [f"{count:5} tables: {end}" for end, count in sorted(ends.items())]
    record("any_table", [*lines, f"{time.monotonic() - started:.0f} s", *failures])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
