"""Our three attacks beside Anonymeter 1.1.0 on the same tables: do the risks agree within sampling error?

usage: python benchmarks/attacks.py [PYTHON_WITH_ANONYMETER]

Anonymeter pins numpy < 1.27 and pyarrow < 22, so it is installed in an environment of its own (made here unless one is
named). Tables are generated (tests/tables/planted.py, no missing values, 1,000 training and 1,000 control rows);
"synthetic" rows are fresh ones, and fresh ones half of which were replaced by training rows. Bar: every risk of ours lies
within both 95 % intervals added up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from results import record

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tables.planted import planted

from shardsynth.data.coding import TableCoder
from shardsynth.metrics.attacks import attacks
from shardsynth.metrics.gower import Space
from shardsynth.metrics.intervals import Z95
from shardsynth.summaries.profile import Profile, ProfileOptions

ROWS = 1_000
SECRETS = {"adult": "weight", "mds": "years"}
_CHILD = """
import json, sys, warnings
import pandas as pd
warnings.simplefilter("ignore")
from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator
folder, categories, secret = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
ori, control, syn = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("train", "holdout", "made"))
for frame in (ori, control, syn):
    for name in frame.columns:
        frame[name] = frame[name].astype(str) if name in categories else frame[name].astype(float)
columns = list(ori.columns)
found = {}
def keep(key, evaluator):
    risk = evaluator.risk(confidence_level=0.95)
    found[key] = [risk.value, *risk.ci]
for key, mode in (("singling_out_one", "univariate"), ("singling_out_many", "multivariate")):
    keep(key, SinglingOutEvaluator(ori=ori, syn=syn, control=control, n_attacks=300, max_attempts=20000, seed=1).evaluate(mode=mode))
keep("linkability", LinkabilityEvaluator(ori=ori, syn=syn, control=control, n_attacks=500, n_neighbors=1, aux_cols=(columns[::2], columns[1::2])).evaluate(n_jobs=1))
aux = [c for c in columns if c != secret]
keep("inference", InferenceEvaluator(ori=ori, syn=syn, control=control, aux_cols=aux, secret=secret, n_attacks=500).evaluate(n_jobs=1))
print(json.dumps(found))
"""


def tables(kind: str) -> tuple[dict[str, pa.Table], TableCoder]:
    """Training, holdout and two "synthetic" tables without missing values, and their coder."""
    found = planted(kind, ROWS, ROWS, seed=3)
    whole = [
        n
        for n in found.train.column_names
        if not any(t[n].null_count for t in (found.train, found.holdout, found.fresh))
    ]
    train, holdout, fresh, copies = (
        t.select(whole) for t in (found.train, found.holdout, found.fresh, found.memorised)
    )
    profile = Profile.empty(train.schema, ProfileOptions(total_rows=ROWS))
    profile.update(train.combine_chunks().to_batches()[0], 0)
    coder = TableCoder.from_profile(profile, [c for c in found.coder.table if c.name in whole])
    half = pa.concat_tables([fresh.slice(0, ROWS // 2), copies.slice(0, ROWS // 2)])
    return {"train": train, "holdout": holdout, "fresh": fresh, "half copied": half}, coder


def main() -> int:
    lines = [f"{'table':24} {'attack':18} {'ours':>22} {'Anonymeter':>22}"]
    missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        python = sys.argv[1] if len(sys.argv) > 1 else _environment(Path(temporary))
        for kind, secret in SECRETS.items():
            found, coder = tables(kind)
            names = found["train"].column_names
            categories = [c.name for c in coder.columns if c.is_category]
            space = Space.of(coder, [found["train"], found["holdout"]], names)
            for made in ("fresh", "half copied"):
                ours = attacks(space, found["train"], found["holdout"], found[made], [secret], 0, Z95)
                for name, table in (("train", "train"), ("holdout", "holdout"), ("made", made)):
                    pq.write_table(found[table], Path(temporary) / f"{name}.parquet")
                answer = subprocess.run(
                    [python, "-c", _CHILD, temporary, json.dumps(categories), secret],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                theirs = json.loads(answer.stdout.splitlines()[-1])
                for attack, other in theirs.items():
                    mine = [ours[attack][key] for key in ("risk", "low", "high")]
                    room = (mine[2] - mine[1] + other[2] - other[1]) / 2
                    agree = abs(mine[0] - other[0]) <= room
                    missed += not agree
                    lines.append(
                        f"{kind + ', ' + made:24} {attack:18} {_told(mine):>22} {_told(other):>22}{'' if agree else '  MISSED'}"
                    )
    record("attacks", [*lines, "", f"risks that disagree: {missed} (bar: 0)"])
    return int(missed > 0)


def _told(values: list[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f}-{values[2]:.3f})"


def _environment(folder: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "anonymeter==1.1.0"], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
