"""Changed job files: a plan, or one clear error that names what is wrong; nothing is run."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tests.runs.fuzz.frame import Subject, Wrong

from shardsynth import Job
from shardsynth.planning.plan import Plan
from shardsynth.planning.preflight import checked_plan

#: What stands in the place of a value.
VALUES: tuple[Any, ...] = (
    0, -1, 1, 2, 0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), 10**7, 2**31, 2**63, 10**40, True, False, None,
    "", " ", "a", "b", "a/b", "../x", "/", "~", "x" * 300, "\0", "\n", "é", "1e400", "9" * 50, "0x", "1e99x", "2x", "-0",
    "1:00:00", "2020-99-99", "*", "[", "{}", [], {}, [1], [None], [[]], ["a", "a"], {"a": 1}, {"": 1}, {1: 2}, {"a": {"b": []}},
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """The folder, and jobs as plain data that can be planned."""

    folder: Path
    jobs: list[dict[str, Any]]


def prepare(folder: Path) -> Prepared:
    """Jobs that use every section."""
    rows = {"a": list(range(60)), "b": ["x", "y"] * 30, "t": [1.0] * 60, "e": [True, False] * 30}
    pq.write_table(pa.table(rows), folder / "s.parquet")
    ranges = {"range_min": 0, "range_max": 100}
    columns = {
        "a": {"sdtype": "numerical", **ranges},
        "b": {"sdtype": "categorical", "range_values": ["x", "y"]},
        "t": {"sdtype": "numerical", **ranges},
        "e": {"sdtype": "boolean"},
    }
    metadata = {"tables": {"t": {"columns": columns}}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    (folder / "m.json").write_text(json.dumps(metadata))
    resources = {"cpus": 1, "mem_gb": 1.5, "gpus": 1, "time": "10", "partition": "p", "options": {"qos": "x"}}
    base = {
        "input": str(folder / "s.parquet"),
        "output": str(folder / "run"),
        "metadata": str(folder / "m.json"),
        "seed": 1,
        "models": {"gaussian_copula": {}},
        "sample": {"rows": "2x", "rows_per_shard": 50, "chunk_rows": 10, "tasks": 2, "coalesce_mb": 1},
        "fit": {"rows": "sample", "sample_rows": 100},
        "rare": {"min_count": 5, "as": "drop"},
        "evaluate": {"holdout": 0.1, "target": "b", "sensitive": ["a"], "survival": {"time": "t", "event": "e"}},
        "cluster": {"workers": 1, "rows_per_task": 10, "stages": {"fit": resources}, "pack": 3, "throttle": 2},
    }
    conditions = [{"where": "a > 3", "rows": 5}, {"where": {"b": "x"}, "share": 0.1}]
    deep = {"ctgan": {"epochs": 2}, "t": {"model": "tvae", "epochs": 2, "batch_size": 10}}
    return Prepared(
        folder,
        [
            base,
            {**base, "sample": {"rows": 100, "conditions": conditions}},
            {**base, "models": {"a": {"model": "autoregressive", "replicas": 2, "hidden": 8, "max_epochs": 1}}},
            {**base, "models": deep, "cluster": {"retry": {"oom": {"mem_gb": "x2"}}, "max_requeues": 3}},
            {**base, "privacy": {"epsilon": 9.0, "delta": 1e-6}},
            {**base, "anonymize": {"b": "name"}, "person": "a", "free_text": ["b"]},
        ],
    )


def attempt(prepared: Prepared, random: Random) -> str:
    """Change one to three values of a job, or the text of its file; load and plan it."""
    job = copy.deepcopy(random.choice(prepared.jobs))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change(job, random)
    text = yaml.safe_dump(job, allow_unicode=True, sort_keys=False).encode("utf-8")
    if random.random() < 0.2:
        text = damaged(text, random)
    path = prepared.folder / "job.yaml"
    path.write_bytes(text)
    plan = checked_plan(Job.load(path))
    written = plan.to_json()
    written.pop("older_identities", None)  # they are of a job file that leaves a key out: the plan has all keys
    if Plan.from_json(json.loads(json.dumps(written))).to_json() != written:
        raise Wrong("the plan is another one after it was written")
    if plan.n_parts * plan.job.sample.rows_per_shard < plan.rows:
        raise Wrong("the parts do not hold the rows")
    return "planned"


def places_of(node: Any) -> list[tuple[Any, Any]]:
    """Every place in plain data: the mapping or list, and the key or number in it."""
    places: list[tuple[Any, Any]] = []
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        places.append((node, key))
        if isinstance(value, (dict, list)):
            places += places_of(value)
    return places


def change(data: Any, random: Random) -> None:
    """Change, delete, add or rename something in plain data."""
    places = places_of(data)
    if not places:
        return
    holder, key = random.choice(places)
    kind = random.choice(("value", "value", "value", "value", "delete", "rename"))
    if kind == "value":
        holder[key] = copy.deepcopy(random.choice(VALUES))
    elif kind == "delete":
        del holder[key]
    elif isinstance(holder, dict):
        holder[random.choice(("x", f"{key}s", ""))] = holder[key]


def damaged(text: bytes, random: Random) -> bytes:
    """A text with a byte changed, a piece gone, or one of YAML's stranger signs in it."""
    place = random.randrange(len(text) + 1)
    kind = random.choice(("flip", "cut", "piece", "sign"))
    if kind == "flip" and place < len(text):
        return text[:place] + bytes([text[place] ^ (1 << random.randrange(8))]) + text[place + 1 :]
    if kind == "cut":
        return text[:place]
    if kind == "piece":
        return text[:place] + text[place + random.randrange(20) :]
    signs = (
        b"&a [*a]",
        b"*a",
        b"!!python/object:os.system",
        b"<<: x",
        b"\t",
        b"- - -",
        b"[" * 500,
        b"\xff",
        b"? {a: 1}",
    )
    return text[:place] + random.choice(signs) + text[place:]


SUBJECT = Subject("job-files", prepare, attempt)
