"""Personal data in a run: the job's ``anonymize``, ``pseudonymize``, ``learn_personal`` and ``free_text``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shardsynth.data.column_roles import person_finding
from shardsynth.data.columns import Column
from shardsynth.data.metadata import keys_of, of_enough_persons, plain_values, table_of
from shardsynth.data.personal import is_free_text
from shardsynth.data.values import kind_of
from shardsynth.errors import JobError, MetadataError, did_you_mean
from shardsynth.job import Job
from shardsynth.sampling.personal import faker_name
from shardsynth.sampling.pseudonyms import Pseudonyms, check_column, read_key

if TYPE_CHECKING:
    from shardsynth.data.tallies import TableTallies


#: Rows of a table in which a value can be common.
_FEWEST_ROWS = 20


def check_personal(job: Job, schema: pa.Schema) -> None:
    """Check the options of personal columns.

    Raises:
        JobError: No such column, a column named twice, or a key file that cannot be used or that others may read.
        MetadataError: Faker has no such function.
    """
    for option, columns in (
        ("anonymize", job.anonymize),
        ("pseudonymize", job.pseudonymize),
        ("free_text", job.free_text),
        ("learn_personal", job.learn_personal),
    ):
        for name in columns:
            if name not in schema.names:
                hint = did_you_mean(name, schema.names, 0.6)
                raise JobError(f"{option}: no column is called {name!r}{hint}")
    for name in set(job.anonymize) & set(job.pseudonymize):
        raise JobError(f"column {name!r} is under anonymize and under pseudonymize; choose one")
    locales = {str(x) for m in job.models.values() for x in _list(m.options.get("locales"))} or {"en_US"}
    for name, function in job.anonymize.items():
        faker_name(Column(name, schema.field(name).type, function, "pii"), sorted(locales))
    for name, path in job.pseudonymize.items():
        check_column(schema.field(name))
        read_key(path, name)


def _list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def pseudonyms(job: Job) -> Pseudonyms | None:
    """The pseudonyms that replace values as they are read; None where the job names no column.

    Every process reads the keys itself and keeps them in memory only.
    """
    if not job.pseudonymize:
        return None
    return Pseudonyms({name: read_key(path, name) for name, path in job.pseudonymize.items()})


def with_personal_columns(metadata: dict[str, Any], job: Job) -> dict[str, Any]:
    """Metadata in which the columns of ``anonymize`` are Faker's, and those of ``pseudonymize`` hold no real value."""
    (name,) = metadata["tables"]
    table = dict(table_of(metadata))
    columns = {column: dict(options) for column, options in table["columns"].items()}
    for column, function in job.anonymize.items():
        columns[column] = {"sdtype": function, "pii": True}
        if column not in keys_of(metadata):
            columns[column]["range_is_nullable"] = True
    for column in job.pseudonymize:
        for key in ("range_values", "range_min", "range_max", "regex_format", "datetime_format"):
            columns[column].pop(key, None)
        if columns[column]["sdtype"] not in ("categorical", "id"):
            columns[column] = {"sdtype": "categorical"}
    return {**metadata, "tables": {name: {**table, "columns": columns}}}


def refuse_persons(metadata: dict[str, Any], profile: TableTallies, job: Job) -> None:
    """Check that no column that holds persons is learned, unless the job names it.

    Raises:
        MetadataError: Metadata of the user call such a column categorical or numerical.
    """
    for name, options in table_of(metadata)["columns"].items():
        if name in (*job.learn_personal, *job.free_text, *job.pseudonymize):
            continue
        finding = person_finding(name, profile.schema.field(name).type, options["sdtype"], profile.sample, profile)
        if finding is not None:
            instead = "call it 'id'" if finding.sdtype == "id" else f"put `{name}: {finding.sdtype}` under anonymize"
            raise MetadataError(
                f"column {name!r} is {options['sdtype']!r} in the metadata, so its real values would come out, but "
                f"{finding.reason}: {instead}, or name it under learn_personal in the job to learn it all the same"
            )


def refuse_all_rare(
    metadata: dict[str, Any],
    profile: TableTallies,
    job: Job,
    persons: np.ndarray[Any, np.dtype[np.uint64]] | None = None,
) -> None:
    """Check that no complete column of categories would become all missing, since each of its values is rare.

    Args:
        metadata: SDV V2 metadata of one table.
        profile: Exact counts of the training rows.
        job: The job.
        persons: uint64[rows of the sample], hashes of the persons of the row sample, where persons are counted.

    Raises:
        MetadataError: Metadata of the user call such a column categorical, and the job drops rare categories.
    """
    natives = [model for model in job.models.values() if model.engine == "native"]
    if job.rare.as_ != "drop" or not natives or profile.rows < _FEWEST_ROWS:
        return
    for name, options in table_of(metadata)["columns"].items():
        if name in (*job.free_text, *job.learn_personal, *job.pseudonymize):
            continue
        tally = profile[name]
        counts = tally.value_counts() if options["sdtype"] in ("categorical", "ordinal") else None
        if counts is None or tally.present < tally.rows:
            continue
        of_enough = counts[1].max(initial=0) >= job.rare.min_count
        counted = "rows"
        if of_enough and persons is not None and profile.sample.num_rows == profile.rows:
            values, counted = plain_values(tally), "persons"
            of_enough = bool(of_enough_persons(profile, name, values, persons, job.rare.min_count))
        if of_enough:
            continue
        type_ = profile.sample.schema.field(name).type
        number = "'numerical' or " if pa.types.is_integer(type_) or pa.types.is_floating(type_) else ""
        raise MetadataError(
            f"column {name!r} is {options['sdtype']!r} in the metadata, and each of its {len(counts[1]):,} values "
            f"is of fewer than {job.rare.min_count} {counted} ({tally.rows:,} rows in all): none may be learned, and "
            f"all would come out missing; call it {number}'id', or set rare: {{as: other}}"
        )


def refuse_free_text(metadata: dict[str, Any], sample: pa.Table, job: Job) -> None:
    """Check that no column of free text is learned: its categories would be a person's own words.

    Raises:
        MetadataError: A column of categories holds free text, and the job does not name it under ``free_text``.
    """
    for name, options in table_of(metadata)["columns"].items():
        if options["sdtype"] not in ("categorical", "ordinal") or name in (*job.free_text, *job.pseudonymize):
            continue
        if kind_of(sample.schema.field(name).type) != "text":
            continue
        present = sample[name].drop_null().cast(pa.string())
        if len(present) >= 20 and is_free_text(present):
            raise MetadataError(
                f"column {name!r} is {options['sdtype']!r} in the metadata, but holds free text, which hardly repeats: "
                "call it 'unknown' (text is made up), or name it under free_text in the job to learn it all the same"
            )
