"""Relations that hold on every row, proposed by `init` as constraints, commented out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from shardsynth.data.coding import TableCoder
from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.shards import Dataset, read_batches
from shardsynth.models.columns.guess_relations import guess_relations

if TYPE_CHECKING:
    from shardsynth.summaries.profile import Profile

#: Most columns of a FixedCombinations that is proposed.
_MOST_COLUMNS = 6


def verified_relations(dataset: Dataset, profile: Profile, metadata: dict[str, Any]) -> list[Any]:
    """Relations that are guessed on the row sample and hold on every row of the shards.

    Args:
        dataset: The shards; they are read once more if a relation was guessed.
        profile: Profile of the same rows.
        metadata: Their metadata in SDV's V2 form.

    Returns:
        Relations of ``models.columns.guess_relations``.
    """
    columns = columns_of(metadata, dataset.schema)
    coder = TableCoder.from_profile(profile, columns)
    guesses = guess_relations(columns, profile.sample, {c.name: c.precision for c in coder.columns})
    violations = [0] * len(guesses)
    if guesses:
        for shard in dataset.shards:
            for batch in read_batches(shard, dataset.schema):
                for place, relation in enumerate(guesses):
                    violations[place] += relation.violations(batch)
    return [relation for relation, count in zip(guesses, violations) if not count]


def proposed_lines(relations: list[Any], rows: int) -> Iterator[str]:
    """Lines for a job file that propose relations as its ``constraints``, commented out.

    Args:
        relations: Relations that hold on all rows.
        rows: Number of rows.

    Yields:
        Comments of YAML. The first two characters of each are to be deleted.
    """
    if not relations:
        return
    yield f"# # Relations that hold on all {rows:,} rows. Native models keep them anyway; as constraints, every engine"
    yield "# # keeps them, and SDV checks every row that is written. Delete the first two characters of each line."
    declarable = [relation for relation in relations if _combined_columns(relation)]
    if declarable:
        yield "# constraints:"
    for relation in declarable:
        yield f"#   # {one_line(relation.describe())} (seen on {relation.support:,} rows of the sample)"
        yield "#   - class_name: FixedCombinations"
        names = yaml.safe_dump(
            _combined_columns(relation), default_flow_style=True, default_style='"', allow_unicode=True, width=math.inf
        )
        yield f"#     parameters: {{column_names: {names.strip()}}}"
    others = [relation for relation in relations if relation not in declarable]
    for relation in others:
        yield f"# # {one_line(relation.describe())} (seen on {relation.support:,} rows; no class of SDV expresses it)"


def _combined_columns(relation: Any) -> list[str]:
    """Columns of the FixedCombinations that expresses a relation; none where one is no category, or they are many."""
    operands = [relation.derived, *(getattr(relation, "parents_", None) or [getattr(relation, "parent", None)])]
    if any(operand is None or operand.values is None for operand in operands) or len(operands) > _MOST_COLUMNS:
        return []
    return [operand.name for operand in operands]


def one_line(text: str) -> str:
    """Text on one line without control characters: YAML forbids them, also in a comment."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
