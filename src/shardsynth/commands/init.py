"""`shardsynth init`: read the shards, detect the metadata, write a job file that can be run unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shardsynth.commands.old_config import OldConfig
from shardsynth.commands.proposals import (
    constraint_lines,
    counts_in_order,
    one_line,
    proposed_lines,
    verified_proposals,
)
from shardsynth.commands.written_columns import sentinel_lines, written_lines
from shardsynth.data.column_names import said_by
from shardsynth.data.column_roles import Finding
from shardsynth.data.columns import COMMON_ROWS
from shardsynth.data.detection import detect_with_findings
from shardsynth.data.metadata import TABLE, public
from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.personal import suspects
from shardsynth.data.shards import Dataset, open_shards, read_batches
from shardsynth.data.values import decoded
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.standalone.files import human_bytes, write_atomic, write_json
from shardsynth.standalone.locks import sole_writer
from shardsynth.summaries.persons import Hashes, distinct_in, hash_persons
from shardsynth.summaries.profile import Profile, ProfileOptions
from shardsynth.summaries.rows import holdout_mask


def write_job(
    source: str | list[str],
    output: Path,
    run_folder: str | None,
    *,
    force: bool = False,
    widen: bool = False,
    old: OldConfig | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Iterator[str]:
    """Write a job file and, beside it, the metadata.

    Args:
        source: The shards: a folder, a glob, or a list of files.
        output: Job file to write; the metadata go to ``<output>.metadata.json``.
        run_folder: Run directory to name in it; None: ``runs/<name of the job file>``.
        force: Overwrite the job file.
        widen: Let types of a column agree that can lose the last digits of a value.
        old: A configuration of SDV 0.17's time, whose settings the job takes.
        progress: Gets what is being done, as text.

    Yields:
        Lines for the terminal: what the table has, what was proposed, what to do next.

    Raises:
        JobError: The job file exists and ``force`` is not set.
        RunError: Another process writes it.
        ShardError: The shards cannot be opened or do not agree.
    """
    with sole_writer(output, "init"):
        if output.exists() and not force:
            raise JobError(f"{output}: exists already; --force overwrites it, or choose another name")
        yield from _written_job(source, output, run_folder, widen, old, progress)


def _written_job(
    source: str | list[str],
    output: Path,
    run_folder: str | None,
    widen: bool,
    old: OldConfig | None,
    progress: Callable[[str], None],
) -> Iterator[str]:
    dataset = open_shards(source, widen=widen)
    size = sum(shard.size for shard in dataset.shards)
    yield f"{len(dataset.shards):,} shards, {dataset.rows:,} rows, {len(dataset.schema)} columns, {human_bytes(size)}"
    if dataset.notes:
        yield f"left out of every sample, metadata {_listed(dataset.notes)}"
    for phrase in dataset.agreed:
        yield f"column {phrase}"
    for name in dataset.wider:
        yield f"column {name!r}: its dictionary index does not hold the values of all shards: samples get a wider one"
    profile = profile_rows(dataset, progress)
    profile.check_finite()
    progress("detecting the columns' types")
    metadata, found = detect_with_findings(profile.sample, profile, dataset.schema)
    table = metadata["tables"][TABLE]
    metadata_file = output.with_suffix(".metadata.json")
    groups = _repeating_ids(table, profile)
    job: dict[str, Any] = {"input": source, **({"widen": True} if widen else {})}
    job |= _job(source, run_folder or f"runs/{output.stem}", metadata_file, groups, _anonymized(table, found))
    progress("looking for relations between columns")
    counts = counts_in_order(metadata, profile.sample)
    for name in counts:
        nullable = {key: table["columns"][name][key] for key in ("range_is_nullable",) if key in table["columns"][name]}
        table["columns"][name] = {"sdtype": "numerical", **nullable}
    persons = None
    if job.get("person"):
        persons = hash_persons(0, profile.sample.column(job["person"]), profile.sample_row_numbers)
    proposals = verified_proposals(dataset, profile, metadata, set(job.get("anonymize") or {}), persons)
    if old is not None:
        yield from old.apply(metadata, job)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(metadata_file, public(metadata, profile, 5, persons))
    sdtypes = Counter(options["sdtype"] for options in table["columns"].values())
    yield "columns by sdtype: " + ", ".join(f"{count} {sdtype}" for sdtype, count in sorted(sdtypes.items()))
    if table.get("primary_key"):
        yield f"primary key: {table['primary_key']!r}"
    for name in groups:
        yield f"the id {name!r} repeats: {_PERSON if name == groups[0] else 'several rows share one value'}"
    for name in counts:
        yield f"column {name!r}: counts something, since it keeps an order with another column (numerical)"
    if persons is not None and profile.rows == profile.sample.num_rows and (number := len(np.unique(persons))) < _FEW:
        held_out = holdout_mask(
            job["seed"],
            job["evaluate"]["holdout"],
            0,
            profile.rows,
            profile.sample.column(job["person"]).combine_chunks(),
        )
        yield _of_few_persons(number, len(np.unique(persons[~held_out])))
    for name, finding in found.items():
        yield f"column {name!r}: {finding.reason} ({_what_becomes(finding)})"
    yield from written_lines(metadata, profile, dataset.schema)
    yield from sentinel_lines(metadata, profile, dataset.schema)
    for suspect in suspects(metadata, profile.sample):
        if suspect.column in found:
            continue
        yield f"column {suspect.column!r}: {suspect.reason}"
    for name, share in _mostly_rare(metadata, profile, persons).items():
        counted = "rows" if persons is None else "persons"
        yield (
            f"column {name!r}: {share:.0%} of its rows have values of fewer than {COMMON_ROWS} {counted}: these do not "
            "come out; write it in fewer categories, as a number or as full dates"
        )
    for relation in proposals.relations:
        yield f"on all rows: {one_line(relation.describe())}"
    for order in proposals.orders:
        yield f"on all rows: {one_line(order.describe())}: kept by the job's constraints"
    text = _HEADER + yaml.safe_dump(job, sort_keys=False, allow_unicode=True)
    # Last in the file: the commented relations go on with the same list.
    orders = [*constraint_lines(proposals.orders, profile.rows)] if "constraints" not in job else []
    relations = proposed_lines(proposals.relations, profile.rows, after_constraints=bool(orders))
    text += "".join(line + "\n" for line in (*orders, *relations))
    Job.parse(yaml.safe_load(text), str(output))  # a job that is not valid is not written
    write_atomic(output, text)
    yield f"wrote {output} and {metadata_file}; correct the sdtypes there, then: shardsynth run {output}"


_PERSON = "taken as the person (`person:`), so that rare values, extremes, holdout and figures count persons, not rows"
#: Rows per value up to which an id repeats seldom.
_SELDOM = 1.5
#: Persons from which a table of several rows each can be learned.
_FEW = 10
#: Share of rows with rare values from which `init` says so.
_MOSTLY = 0.5
#: Most phrases of one line.
_MOST_LISTED = 12
_HEADER = """\
# Written by `shardsynth init`; every key is described in docs/job-file.md.
# Models: autoregressive (the most faithful; trained, on CPUs too), gaussian_copula (fitted from counts, on CPUs),
# copulagan, ctgan, tvae (trained; GPUs help).
"""


def _of_few_persons(persons: int, training: int) -> str:
    """What the terminal says of a table of few persons, of whom some are not in the holdout."""
    said = f"only {persons} persons, {training} of them to learn from (the others are the holdout): a value that fewer "
    said += f"than {COMMON_ROWS} have is not learned, "
    if training >= COMMON_ROWS:
        return said + "so most columns cannot be"
    return said + (
        "so nothing can be, and `shardsynth run` will refuse this table; it needs more persons, or, if each row is a "
        "person of its own, a job without `person:`"
    )


def _mostly_rare(metadata: dict[str, Any], profile: Profile, persons: Hashes | None) -> dict[str, float]:
    """By column of categories, the share of rows with a rare value, where these are most rows of the sample."""
    found = {}
    for column in columns_of(metadata, profile.sample.schema):
        if column.role != "category":
            continue
        values = decoded(profile.sample[column.name].combine_chunks()).dictionary_encode()
        codes = np.asarray(values.indices.fill_null(-1).to_numpy(zero_copy_only=False))
        present = codes >= 0
        codes, size = codes[present].astype(np.int64), len(values.dictionary)
        weight = np.bincount(codes, minlength=size)
        if persons is not None:
            weight = distinct_in(codes, persons[present], size)
        share = float((weight < COMMON_ROWS)[codes].mean()) if len(codes) else 0.0
        if share > _MOSTLY:
            found[column.name] = share
    return found


def _listed(phrases: Sequence[str]) -> str:
    more = f"; and {len(phrases) - _MOST_LISTED} more" if len(phrases) > _MOST_LISTED else ""
    return one_line("; ".join(phrases[:_MOST_LISTED])) + more


def profile_rows(dataset: Dataset, progress: Callable[[str], None] = lambda step: None) -> Profile:
    """Profile of all rows, with a row sample of the usual size."""
    profile = Profile.empty(dataset.schema, ProfileOptions(total_rows=dataset.rows))
    row = 0
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema):
            profile.update(batch, row)
            row += batch.num_rows
            progress(f"reading: {row:,} of {dataset.rows:,} rows")
    return profile.cut()


def _repeating_ids(table: dict[str, Any], profile: Profile) -> list[str]:
    """Id columns in which a value stands on several rows, those first that number persons by their name.

    None where a column numbers persons by its name and no value repeats: then each row is a person. Numbers of others,
    such as mothers, are left out, and so are ids that repeat seldom and whose name says nothing.
    """
    ids = [name for name, options in table["columns"].items() if options["sdtype"] == "id"]
    ids = [name for name in ids if not said_by(name).other]
    rows_per_value = {name: _rows_per_value(name, profile) for name in ids}
    if any(said_by(name).number == "person" and rows_per_value[name] == 1 for name in ids):
        return []
    repeating = [name for name in ids if rows_per_value[name] > (1 if said_by(name).number else _SELDOM)]
    return sorted(repeating, key=lambda name: said_by(name).number != "person")


def _rows_per_value(name: str, profile: Profile) -> float:
    """Rows that have a value, by distinct value; 1 for a column without values."""
    counted = profile[name].value_counts()
    if counted is not None:
        return float(counted[1].mean()) if len(counted[1]) else 1.0
    values = profile.sample[name].drop_null()  # too many to count them all
    return len(values) / max(len(values.unique()), 1)


def _anonymized(table: dict[str, Any], found: Mapping[str, Finding]) -> dict[str, str]:
    """Column -> Faker function, for the columns that hold persons and are no identifiers."""
    return {
        name: finding.sdtype
        for name, finding in found.items()
        if finding.person
        and finding.sdtype not in ("id", "unknown")
        and table["columns"][name]["sdtype"] == finding.sdtype
    }


def _what_becomes(finding: Finding) -> str:
    if finding.sdtype == "categorical":
        return "categorical"
    made = "made by its format" if finding.sdtype == "id" else f"anonymize: {finding.sdtype}"
    return made + "; learn_personal would learn it" if finding.person else made


def _job(
    source: str | list[str], run_folder: str, metadata: Path, groups: list[str], anonymize: dict[str, str]
) -> dict[str, Any]:
    return {
        "input": source,
        "output": run_folder,
        "metadata": str(metadata),
        "seed": 0,
        "models": {**({"autoregressive": {}} if find_spec("torch") else {}), "gaussian_copula": {}},
        "sample": {"rows": "1x"},
        **({"anonymize": anonymize} if anonymize else {}),
        **({"person": groups[0]} if groups else {}),
        "evaluate": {"holdout": 0.1},
    }
