"""Relations that hold on every row, proposed by `init` as constraints, commented out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from shardsynth.data.shards import Dataset, read_batches

if TYPE_CHECKING:
    from shardsynth.summaries.profile import Profile

_MOST_COLUMNS = 6  # of a FixedCombinations that is proposed


def verified_relations(dataset: Dataset, profile: Profile, metadata: dict[str, Any]) -> list[Any]:
    """Relations guessed on the row sample that no row of the shards breaks."""
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.metadata import columns as columns_of
    from shardsynth.models.columns.guess_relations import guess_relations

    columns = columns_of(metadata, dataset.schema)
    coder = TableCoder.from_profile(profile, columns)
    found = guess_relations(columns, profile.sample, {c.name: c.precision for c in coder.columns})
    broken = [0] * len(found)
    if found:
        for shard in dataset.shards:
            for batch in read_batches(shard, dataset.schema):
                for place, relation in enumerate(found):
                    broken[place] += relation.violations(batch)
    return [relation for relation, count in zip(found, broken) if not count]


def proposed_lines(relations: list[Any], rows: int) -> Iterator[str]:
    """Lines for a job file, all of them comments: without their first two characters they are its ``constraints``."""
    if not relations:
        return
    yield f"# # Relations that hold on all {rows:,} rows. Native models keep them by themselves; as constraints every"
    yield "# # engine does, and SDV checks them on every row that is written. Take the first two characters away."
    combined = [relation for relation in relations if _columns(relation)]
    if combined:
        yield "# constraints:"
    for relation in combined:
        yield f"#   # {one_line(relation.describe())} (seen on {relation.support:,} rows of the sample)"
        yield "#   - class_name: FixedCombinations"
        names = yaml.safe_dump(
            _columns(relation), default_flow_style=True, default_style='"', allow_unicode=True, width=math.inf
        )
        yield f"#     parameters: {{column_names: {names.strip()}}}"
    others = [relation for relation in relations if relation not in combined]
    for relation in others:
        yield f"# # {one_line(relation.describe())} (seen on {relation.support:,} rows; no class of SDV says it)"


def _columns(relation: Any) -> list[str]:
    """Columns of the FixedCombinations that says the relation; none where they are no categories, or too many."""
    operands = [relation.derived, *(getattr(relation, "parents_", None) or [getattr(relation, "parent", None)])]
    if any(operand is None or operand.values is None for operand in operands) or len(operands) > _MOST_COLUMNS:
        return []
    return [operand.name for operand in operands]


def one_line(text: str) -> str:
    """A comment: YAML takes no control character, not even there."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
