"""`shardsynth init`: look at the shards, detect the metadata, write a job file that runs as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from shardsynth.commands.proposals import one_line, proposed_lines, verified_relations
from shardsynth.data.shards import Dataset, open_shards, read_batches
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.standalone.files import human_bytes, write_atomic, write_json

if TYPE_CHECKING:
    from shardsynth.commands.old_config import OldConfig
    from shardsynth.summaries.profile import Profile


def write_job(
    source: str | list[str],
    output: Path,
    run_folder: str | None,
    *,
    force: bool = False,
    old: OldConfig | None = None,
) -> Iterator[str]:
    """Write a job file and, beside it, the metadata; yields lines that say what was found.

    Args:
        source: The shards.
        output: Job file to write.
        run_folder: Run directory to name in it.
        force: Overwrite the job file.
        old: What a configuration of SDV 0.17's time asks for.

    Raises:
        JobError: The job file exists and ``force`` is not set.
        ShardError: The shards cannot be opened or do not agree.
    """
    from shardsynth.data.detection import detect
    from shardsynth.data.metadata import TABLE, public
    from shardsynth.data.personal import suspects

    if output.exists() and not force:
        raise JobError(f"{output}: exists already; --force overwrites it, or choose another name")
    dataset = open_shards(source)
    size = sum(shard.size for shard in dataset.shards)
    yield f"{len(dataset.shards):,} shards, {dataset.rows:,} rows, {len(dataset.schema)} columns, {human_bytes(size)}"
    profile = _profile(dataset)
    profile.check_finite()
    exact = detect(profile.sample, profile, dataset.schema)
    metadata_file = output.with_suffix(".metadata.json")
    relations = verified_relations(dataset, profile, exact)
    groups = _repeating_ids(exact["tables"][TABLE], profile)
    job = _job(source, run_folder or f"runs/{output.stem}", metadata_file, groups)
    if old is not None:
        yield from old.applied(exact, job)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(metadata_file, public(exact, profile, 5))
    table = exact["tables"][TABLE]
    kinds: dict[str, int] = {}
    for options in table["columns"].values():
        kinds[options["sdtype"]] = kinds.get(options["sdtype"], 0) + 1
    yield "columns by sdtype: " + ", ".join(f"{count} {name}" for name, count in sorted(kinds.items()))
    if table.get("primary_key"):
        yield f"primary key: {table['primary_key']!r}"
    for name in groups:
        yield f"the id {name!r} repeats: all rows of one {name!r} go to one side of the holdout (evaluate.group)"
    for suspect in suspects(exact, profile.sample):
        yield f"column {suspect.column!r}: {suspect.reason}"
    for relation in relations:
        yield f"on all rows: {one_line(relation.describe())}"
    Job.parse(job, str(output))
    comments = "".join(line + "\n" for line in proposed_lines(relations, profile.rows))
    write_atomic(output, _HEADER + yaml.safe_dump(job, sort_keys=False, allow_unicode=True) + comments)
    yield f"wrote {output} and {metadata_file}; correct the sdtypes there, then: shardsynth run {output}"


_HEADER = """\
# Written by `shardsynth init`; every key is described in docs/job-file.md.
# Models: autoregressive (the most faithful; trained, on CPUs too), gaussian_copula (fitted from counts, on CPUs),
# copulagan, ctgan, tvae (trained; GPUs help).
"""


def _profile(dataset: Dataset) -> Profile:
    from shardsynth.summaries.profile import Profile, ProfileOptions

    profile = Profile.empty(dataset.schema, ProfileOptions(total_rows=dataset.rows))
    row = 0
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema):
            profile.update(batch, row)
            row += batch.num_rows
    return profile.cut()


def _repeating_ids(table: dict[str, Any], profile: Profile) -> list[str]:
    """Id columns in which values come back: several rows of one person."""
    found = []
    for name, options in table["columns"].items():
        counted = profile[name].value_counts() if options["sdtype"] == "id" else None
        if counted is not None and counted[1].max(initial=0) > 1:
            found.append(name)
    return found


def _job(source: str | list[str], run_folder: str, metadata: Path, groups: list[str]) -> dict[str, Any]:
    evaluate: dict[str, Any] = {"holdout": 0.1}
    if groups:
        evaluate["group"] = groups[0]
    return {
        "input": source,
        "output": run_folder,
        "metadata": str(metadata),
        "seed": 0,
        "models": {**({"autoregressive": {}} if find_spec("torch") else {}), "gaussian_copula": {}},
        "sample": {"rows": "1x"},
        "evaluate": evaluate,
    }
