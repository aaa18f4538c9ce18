"""`shardsynth init` over several tables: their keys, relationships and order are guessed, and said with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from shardsynth.commands.init import profile_rows
from shardsynth.data.detection import detect_with_findings
from shardsynth.data.metadata import TABLE, public
from shardsynth.data.relations import is_ordered, read_tables
from shardsynth.data.shards import Dataset, open_shards, read_batches
from shardsynth.data.values import decoded, kind_of
from shardsynth.errors import JobError, MetadataError, ShardError, did_you_mean
from shardsynth.job import Job
from shardsynth.planning.tables import drawn_lists, key_hashes
from shardsynth.standalone.files import write_atomic, write_json
from shardsynth.standalone.locks import sole_writer
from shardsynth.summaries.persons import hash_persons
from shardsynth.summaries.profile import Profile

#: Names of columns that say the order of rows, those that say it best first.
_ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (r"(start|begin|admi).*(date|time|day)?$|stdy$|stdtc$", r"(date|time|day)$|dy$", r"^year$|year$")
)
_NUMBERED = re.compile(r"(visit|seq|number|num|wave|cycle|order|nr)$", re.IGNORECASE)
#: Distinct values from which text that lies in another table's key is taken for a reference, whatever its name.
_FEWEST_VALUES = 20
_HEADER = """\
# Written by `shardsynth init`; every key is described in docs/job-file.md, several tables in docs/several-tables.md.
"""


@dataclass
class _Found:
    """One table as far as it is known.

    Attributes:
        name: Its name.
        source: Its shards, as the user named them.
        dataset: Its shards.
        profile: Of all its rows.
        options: Its SDV metadata.
        unique: Columns without a missing value in which none repeats.
    """

    name: str
    source: str
    dataset: Dataset
    profile: Profile
    options: dict[str, Any]
    unique: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Link:
    child: str
    column: str
    owner: str
    key: str
    reason: str


def are_several(sources: list[str]) -> bool:
    """Whether the sources are several tables: their columns differ. Several folders or files of one table are not."""
    if len(sources) < 2:
        return False
    names = set()
    for source in sources:
        try:
            names.add(tuple(open_shards(source).schema.names))
        except ShardError:
            return False  # the usual way says what is wrong
    return len(names) > 1


def write_tables_job(
    sources: list[str],
    output: Path,
    run_folder: str | None,
    *,
    sequence_key: str | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Iterator[str]:
    """Write a job file of several tables, or of one whose rows belong to subjects, and beside it the metadata.

    Args:
        sources: Folder, glob or file of each table's shards.
        output: Job file to write; the metadata go to ``<output>.metadata.json``.
        run_folder: Run directory to name in it; None: ``runs/<name of the job file>``.
        sequence_key: Of a single table, the column that names the subjects.
        force: Overwrite the job file.
        progress: Gets what is being done, as text.

    Yields:
        Lines for the terminal: what was guessed and why, the tables as a drawing, what to do next.

    Raises:
        JobError: The job file exists and ``force`` is not set, or two tables have one name.
        ShardError: The shards cannot be opened or do not agree.
        MetadataError: No tree of tables was found.
    """
    with sole_writer(output, "init"):
        if output.exists() and not force:
            raise JobError(f"{output}: exists already; --force overwrites it, or choose another name")
        yield from _written(sources, output, run_folder, sequence_key, progress)


def _written(
    sources: list[str],
    output: Path,
    run_folder: str | None,
    sequence_key: str | None,
    progress: Callable[[str], None],
) -> Iterator[str]:
    found: dict[str, _Found] = {}
    for source in sources:
        table = _look_at(source, progress)
        if table.name in found:
            raise JobError(f"init: two tables are called {table.name!r}, after their folders; rename one of these")
        found[table.name] = table
        rows, columns = table.dataset.rows, len(table.dataset.schema)
        yield f"{table.name}: {len(table.dataset.shards):,} shards, {rows:,} rows, {columns} columns"
    links: list[_Link] = []
    lists: list[str] = []
    if sequence_key is None:
        progress("looking for relationships")
        links, to_lists, left_out = _links(found)
        lists = sorted({each.owner for each in to_lists}, key=list(found).index)
        for each in links:
            yield f"relationship {each.child}.{each.column} -> {each.owner}.{each.key}: {each.reason}"
        for each in to_lists:
            yield f"{each.owner} is a list that {each.child}.{each.column} names: it is copied (`copy: true`)"
        yield from left_out
        links += to_lists
    else:
        (only,) = found.values()
        if sequence_key not in only.dataset.schema.names:
            hint = did_you_mean(sequence_key, only.dataset.schema.names, 0.6)
            raise JobError(f"init: --sequence-key: no column is called {sequence_key!r}{hint}")
    metadata = _metadata(found, links, sequence_key, lists)
    owned = [link for link in links if link.owner not in lists]
    for name, column, reason in _orders(found, owned, sequence_key):
        metadata["tables"][name]["sequence_index"] = column
        yield f"order of {name}: {column}: {reason}"
    metadata_file = output.with_suffix(".metadata.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(metadata_file, metadata)
    try:
        schemas = {name: table.dataset.schema for name, table in found.items()}
        tree, _, references = read_tables(metadata_file, schemas, lists)
    except MetadataError as error:
        raise MetadataError(f"{error}; what was guessed is in this file: correct it there and write the job") from None
    job = {
        "tables": {
            name: {"input": table.source, **({"copy": True} if name in lists else {})} for name, table in found.items()
        },
        "output": run_folder or f"runs/{output.stem}",
        "metadata": str(metadata_file),
        "seed": 0,
        "models": {"autoregressive": {}},
        "sample": {"rows": "1x"},
        "evaluate": {"holdout": 0.1},
    }
    text = _HEADER + yaml.safe_dump(job, sort_keys=False, allow_unicode=True)
    Job.parse(yaml.safe_load(text), str(output))  # a job that is not valid is not written
    write_atomic(output, text)
    counts = {name: table.dataset.rows for name, table in found.items()}
    yield from tree.drawing(counts)
    yield from drawn_lists(references, {name: counts[name] for name in lists})
    yield f"wrote {output} and {metadata_file}; correct the guesses there, then: shardsynth run {output}"


def _look_at(source: str, progress: Callable[[str], None]) -> _Found:
    dataset = open_shards(source)
    path = Path(source)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem if path.is_file() else path.name).strip("._-") or "table"
    profile = profile_rows(dataset, progress)
    profile.check_finite()
    progress(f"detecting the columns' types of {name}")
    metadata, _ = detect_with_findings(profile.sample, profile, dataset.schema)
    options = public(metadata, profile, 5)["tables"][TABLE]
    for described in options["columns"].values():
        described.pop("range_values", None)  # which values enough persons have is not known here
    table = _Found(name, source, dataset, profile, options)
    table.unique = [each.name for each in dataset.schema if _is_unique(table, each)]
    return table


def _is_unique(table: _Found, column: pa.Field) -> bool:
    if kind_of(column.type) not in ("text", "integer") or not table.dataset.rows:
        return False
    tally = table.profile[column.name]
    if tally.present < tally.rows:
        return False
    counted = tally.value_counts()
    if counted is not None:
        return len(counted[1]) == tally.rows
    values = decoded(table.profile.sample[column.name])
    return len(values.unique()) == len(values) and len(_all_keys(table, column.name)) == tally.rows


def _all_keys(table: _Found, column: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Hashes of all values of a column, in order, each once."""
    parts = [np.zeros(0, np.uint64)]
    for shard in table.dataset.shards:
        for batch in read_batches(shard, table.dataset.schema, names=[column]):
            values = decoded(batch.column(column)).drop_null()
            parts.append(np.unique(key_hashes(values)))
    return np.unique(np.concatenate(parts))


def _links(found: Mapping[str, _Found]) -> tuple[list[_Link], list[_Link], list[str]]:
    """The relationships, at most one owner a table; those to lists; and lines on what was left out.

    A table that no table needs as its owner, and that has none, is a list if another one names its rows.
    """
    keys = {(table.name, column): _all_keys(table, column) for table in found.values() for column in table.unique}
    candidates: dict[str, list[_Link]] = {}
    for child in found.values():
        for column in child.dataset.schema.names:
            candidates.setdefault(child.name, []).extend(_owners(child, column, found, keys))
    links: list[_Link] = []
    others: list[_Link] = []
    for all_own in candidates.values():
        # The finest owner says most, if most of its keys are named; of equals, the one whose key is called like the
        # column. Of a list of all codes, most are in no row.
        ordered = sorted(
            all_own,
            key=lambda link: (
                not _names_most(link, found, keys),
                -found[link.owner].dataset.rows,
                link.column != link.key,
            ),
        )
        own = [link for link in ordered if not _goes_round(link, links)]
        if own:
            links.append(own[0])
        seen: set[tuple[str, str]] = set()
        for link in own[1:]:
            if link.owner != own[0].owner and (link.column, link.owner) not in seen:
                seen.add((link.column, link.owner))
                others.append(link)
    owners, children = {link.owner for link in links}, {link.child for link in links}
    to_lists = [link for link in others if link.owner not in owners | children and link.child in owners | children]
    left_out = [
        f"{link.child}.{link.column} names {link.owner} too: left out, a table has one owner"
        for link in others
        if link not in to_lists
    ]
    return links, to_lists, left_out


def _names_most(
    link: _Link, found: Mapping[str, _Found], keys: Mapping[tuple[str, str], np.ndarray[Any, np.dtype[np.uint64]]]
) -> bool:
    """Whether the child's rows name a third of the owner's keys or more, as far as the sample says."""
    named = decoded(found[link.child].profile.sample[link.column]).drop_null().unique()
    return bool(3 * len(named) >= min(len(keys[link.owner, link.key]), found[link.child].profile.sample.num_rows))


def _goes_round(link: _Link, links: list[_Link]) -> bool:
    owners = {each.child: each.owner for each in links}
    owner: str | None = link.owner
    while owner is not None:
        if owner == link.child:
            return True
        owner = owners.get(owner)
    return False


def _owners(
    child: _Found,
    column: str,
    found: Mapping[str, _Found],
    keys: Mapping[tuple[str, str], np.ndarray[Any, np.dtype[np.uint64]]],
) -> Iterator[_Link]:
    """Relationships that a column may be: its values lie in a key, and its name or their number says that it is one."""
    type_ = child.dataset.schema.field(column).type
    if kind_of(type_) not in ("text", "integer"):
        return
    values = decoded(child.profile.sample[column]).drop_null().unique()
    if not len(values):
        return
    hashes = key_hashes(values)
    for (owner, key), known in keys.items():
        owner_type = found[owner].dataset.schema.field(key).type
        if owner == child.name or kind_of(owner_type) != kind_of(type_):
            continue
        named = _names_key(column, owner, key)
        many = kind_of(type_) == "text" and len(values) >= _FEWEST_VALUES
        if not (named or many) or (column in child.unique and found[owner].dataset.rows < child.dataset.rows):
            continue
        if np.isin(hashes, known).all():
            if column in child.unique and key not in found[owner].unique:
                continue
            reason = "all its values are keys there" + (", and its name says so" if named else "")
            yield _Link(child.name, column, owner, key, reason)


def _names_key(column: str, owner: str, key: str) -> bool:
    """Whether a column is called like the key, or like table and key: ``patient_id`` of ``patients.id``."""
    plain = [re.sub(r"[^a-z0-9]", "", text.lower()) for text in (column, owner, key)]
    singular = plain[1][:-1] if plain[1].endswith("s") else plain[1]
    return plain[0] == plain[2] or plain[0] in (plain[1] + plain[2], singular + plain[2], singular + "id", singular)


def _metadata(
    found: Mapping[str, _Found], links: list[_Link], sequence_key: str | None, lists: Sequence[str] = ()
) -> dict[str, Any]:
    owner_keys = {link.owner: link.key for link in links}
    tables: dict[str, Any] = {}
    for name, table in found.items():
        columns = {column: dict(options) for column, options in table.options["columns"].items()}
        own = {key: value for key, value in table.options.items() if key not in ("columns", "primary_key")}
        own.pop("alternate_keys", None)
        foreign = {link.column for link in links if link.child == name and link.owner not in lists}
        key = owner_keys.get(name) or table.options.get("primary_key")
        if key is not None and key in table.unique and key not in foreign and key != sequence_key:
            own["primary_key"] = key
            foreign.add(key)
        if sequence_key is not None:
            own["sequence_key"] = sequence_key
            foreign.add(sequence_key)
        for column in foreign:
            kept = columns[column] if columns[column].get("sdtype") == "id" else {}
            columns[column] = {**kept, "sdtype": "id"}
        for link in links:
            if link.child == name and link.owner in lists:
                columns[link.column] = {"sdtype": "categorical"}
        tables[name] = {"columns": columns, **own}
    relationships = [
        {
            "parent_table_name": link.owner,
            "parent_primary_key": link.key,
            "child_table_name": link.child,
            "child_foreign_key": link.column,
        }
        for link in links
    ]
    return {"tables": tables, "relationships": relationships, "METADATA_SPEC_VERSION": "V2"}


def _orders(
    found: Mapping[str, _Found], links: list[_Link], sequence_key: str | None
) -> Iterator[tuple[str, str, str]]:
    """The column that says the order of an owner's rows, for each table that has an owner and such a column."""
    owners = {link.child: link.column for link in links}
    if sequence_key is not None:
        owners = dict.fromkeys(found, sequence_key)
    for name, owner_column in owners.items():
        table = found[name]
        persons = hash_persons(0, table.profile.sample.column(owner_column), table.profile.sample_row_numbers)
        best: tuple[float, int, str, str] | None = None
        for place, column in enumerate(table.dataset.schema):
            rank = _rank(column)
            if column.name in (owner_column, table.options.get("primary_key")) or rank is None:
                continue
            if not _changes(table, column.name, persons):
                continue
            why = "a date or time" if rank[0] < 1 else f"its name says {rank[1]}"
            if best is None or (rank[0], place) < best[:2]:
                best = (rank[0], place, column.name, f"{why}, and it changes within an owner")
        if best is not None:
            yield name, best[2], best[3]


def _rank(column: pa.Field) -> tuple[float, str] | None:
    """How well a column says the order, smaller is better, and what its name says; None: not at all."""
    if not is_ordered(column.type) or pa.types.is_dictionary(column.type):
        return None
    for number, pattern in enumerate(_ORDERS):
        if pattern.search(column.name):
            return (0.1 * number if pa.types.is_temporal(column.type) else 1.0 + number), "a time"
    if pa.types.is_temporal(column.type):
        return 0.5, "a time"
    return (9.0, "a number of its own") if _NUMBERED.search(column.name) else None


def _changes(table: _Found, column: str, persons: np.ndarray[Any, np.dtype[np.uint64]]) -> bool:
    """Whether a column changes within most owners that have several rows of the sample."""
    values = decoded(table.profile.sample[column]).dictionary_encode(null_encoding="encode").indices
    codes = np.asarray(values.to_numpy(zero_copy_only=False), np.int64)
    who, inverse, counts = np.unique(persons, return_inverse=True, return_counts=True)
    several = counts > 1
    if not several.any():
        return False
    different = np.bincount(np.unique(inverse * (codes.max() + 1) + codes) // (codes.max() + 1), minlength=len(who))
    return bool((different[several] > 1).mean() > 0.5)
