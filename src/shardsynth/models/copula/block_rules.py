"""Columns of categories that share a coarser column: only some categories of one go with some of the other.

The planned and the actual treatment of a trial both say whether the screening failed. A Gaussian keeps that on most
rows only. The categories of such a pair fall into blocks, each block of one column goes with one block of the other,
and the blocks are as frequent in both. Where a row is drawn across blocks, the second column gets the most frequent
category that the first one's category goes with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.columns.card import Card, Count
from shardsynth.models.columns.files import ModelFile
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.copula.tables import Integers

Mask = NDArray[np.bool_]

#: Nats of evidence that blocks need: how improbable they would be if the columns were independent.
_EVIDENCE = 20.0


class BlockRuleCard(Card):
    """See ``BlockRule``."""

    column: Count
    given: Count
    table: list[list[Count]]


@dataclass(frozen=True)
class BlockRule:
    """A column whose category must go with that of another column.

    Attributes:
        column: Index of the column in the schema.
        given: Index of the other column.
        table: For each code of the other column, by code of the column: the code that it gets.
    """

    column: int
    given: int
    table: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"column": self.column, "given": self.given, "table": [list(row) for row in self.table]}


def block_rule(column: int, given: int, together: Integers, least: int) -> tuple[float, BlockRule] | None:
    """The rule of two columns, and its evidence; None where their categories do not fall into blocks.

    Args:
        column: Index of the column.
        given: Index of the other one.
        together: int64[categories of the other, categories of the column], persons that have both.
        least: Fewer persons than these do not tie two categories together, and are no evidence of a block.
    """
    held = np.where(together >= least, together, 0)
    if int(together.sum() - held.sum()) >= least * max(1, int((together != held).sum())):
        return None
    rows, columns = _blocks(held > 0)
    number = int(rows.max(initial=-1)) + 1
    if number < 2:
        return None
    of_rows = np.array([held[rows == k].sum() for k in range(number)], np.float64)
    if int((of_rows >= 4 * least).sum()) < number:
        return None
    total = float(of_rows.sum())
    agree = float(((of_rows / total) ** 2).sum())
    evidence = -total * float(np.log(agree))
    if evidence < _EVIDENCE:
        return None
    best = held.argmax(axis=1)
    table = np.broadcast_to(np.arange(held.shape[1]), held.shape).copy()
    wrong = (rows[:, None] >= 0) & (columns[None, :] >= 0) & (columns[None, :] != rows[:, None])
    table = np.where(wrong, best[:, None], table)
    return evidence, BlockRule(column, given, tuple(tuple(row) for row in table.tolist()))


def _blocks(tied: Mask) -> tuple[Integers, Integers]:
    """Number of the block of each row and of each column of a table of ties; -1: it has no tie."""
    rows, columns = (np.full(size, -1, np.int64) for size in tied.shape)
    number = 0
    for start in np.flatnonzero(tied.any(axis=1)).tolist():
        if rows[start] >= 0:
            continue
        some = np.zeros(len(rows), np.bool_)
        some[start] = True
        while True:
            reached = tied[some].any(axis=0)
            more = tied[:, reached].any(axis=1) | some
            if (more == some).all():
                break
            some = more
        rows[some], columns[reached] = number, number
        number += 1
    return rows, columns


def apply_blocks(
    rules: Sequence[BlockRule],
    codes: Mapping[int, tuple[Integers, Mask | None]],
    conditioned: Collection[int] = (),
) -> dict[int, Integers]:
    """Codes int64[n] of the columns that a rule changed, by index in the schema.

    Args:
        rules: In their order.
        codes: By index of each column that a rule names: its codes, and where it is missing.
        conditioned: Columns that are conditions: they stay as they were drawn.
    """
    changed: dict[int, Integers] = {}
    for rule in rules:
        if rule.column in conditioned:
            continue
        given, absent = codes[rule.given]
        own, missing = codes[rule.column]
        given = changed.get(rule.given, np.asarray(given, np.int64))
        own = np.asarray(own, np.int64)
        wanted = np.array(rule.table, np.int64)[given, own]
        for mask in (absent, missing):
            wanted = wanted if mask is None else np.where(mask, own, wanted)
        if not np.array_equal(wanted, own):
            changed[rule.column] = wanted
    return changed


def described(rule: BlockRule, columns: Sequence[FittedColumn]) -> str:
    """A rule in words, without data values."""
    return f"only some categories of {columns[rule.column].name} go with each of {columns[rule.given].name}"


def load_blocks(
    file: ModelFile, cards: Sequence[BlockRuleCard], columns: Sequence[FittedColumn]
) -> tuple[BlockRule, ...]:
    """The rules of a model's file, checked.

    Raises:
        ModelError: A rule names what is not there.
    """
    for card in cards:
        sizes = []
        for index in (card.given, card.column):
            found = columns[index] if index < len(columns) else None
            held = found.categories if found is not None and found.treatment == "latent" else None
            sizes.append(-1 if held is None else len(held))
        rows, width = sizes
        right = card.given != card.column and min(sizes) > 0 and len(card.table) == rows
        if not right or any(len(row) != width or max(row) >= width for row in card.table):
            raise file.wrong("block_rules: are not tables of the categories of two learned columns")
    return tuple(BlockRule(card.column, card.given, tuple(map(tuple, card.table))) for card in cards)
