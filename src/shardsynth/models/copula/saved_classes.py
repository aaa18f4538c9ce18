"""Rare classes in a copula's file, checked."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shardsynth.models.columns.card import Card, Count
from shardsynth.models.columns.checks import Array
from shardsynth.models.columns.files import LARGEST, ModelFile
from shardsynth.models.columns.fitted import FittedColumn, Latent
from shardsynth.models.copula.classes import Group, groups_from
from shardsynth.models.copula.tables import GRID, REACH


class GroupCard(Card):
    """See ``classes.Group``."""

    segments: list[Count]
    columns: list[Count]
    latents: list[Count]


class ClassesCard(Card):
    """The target column, and its groups of classes."""

    target: Count
    groups: list[GroupCard]


def load_groups(
    file: ModelFile, columns: Sequence[FittedColumn], latents: Sequence[Latent], within: float
) -> tuple[Group, ...]:
    """The groups of rare classes of a model's file; none where it has none.

    Args:
        file: The model's files.
        columns: The columns.
        latents: The latents.
        within: What the probabilities of a column may miss in their sum.

    Raises:
        ModelError: Something is not what it must be.
    """
    groups = file.card.classes.groups
    if "classes" not in file.plain:
        return ()
    target = file.card.classes.target
    by_column = {latent.columns[0]: number for number, latent in enumerate(latents) if latent.kind == "value"}
    marginal = columns[target].marginal if target in by_column else None
    if marginal is None or not groups:
        raise file.wrong("classes: the target is no learned column, or there is no class")
    drawn = [segment for group in groups for segment in group.segments]
    if sorted(drawn) != list(range(len(marginal.lo))):
        raise file.wrong("classes.groups: do not share out the segments of the target")
    if not groups[0].segments or any(len(group.segments) != 1 for group in groups[1:]):
        raise file.wrong("classes.groups: the first group needs a segment of the target, each rare class exactly one")
    if any(group.columns != groups[0].columns for group in groups):
        raise file.wrong("classes.groups: do not all have the same columns")
    for group in groups:
        if [by_column.get(column) for column in group.columns] != group.latents or target in group.columns:
            raise file.wrong("classes.groups: their latents are not those of their columns")
    owners = [columns[column] for group in groups for column in group.columns]
    names = [column.name for column in owners]
    held = [0 if column.categories is None else len(column.categories) for column in owners]
    coded = [column.categories is not None for column in owners]
    value = Array(
        "float64", parts=names, minimum=[-1 if c else -LARGEST for c in coded], whole=coded,
        maximum=[n - 1 if c else LARGEST for n, c in zip(held, coded)], never_falls=[not c for c in coded],
    )  # fmt: skip
    share = Array("float64", parts=names, minimum=0.0, sums_to=1.0, within=within)
    ragged = file.check({"class.probability": share})
    lengths = np.diff(ragged["class.probability"].starts)
    if len(lengths) and lengths.min() < 1:
        raise file.wrong("array 'class.probability': a part is empty", "model.safetensors")
    reach = REACH * GRID
    ragged |= file.check(
        {
            "class.lo": replace(value, lengths=lengths),
            "class.hi": replace(value, lengths=lengths, not_below="class.lo"),
            "class.cuts": Array(
                "int64", parts=names, lengths=lengths - 1, minimum=-reach, maximum=reach, increasing=True, parity=0
            ),
        }
    )
    return groups_from(file.plain["classes"], ragged, columns)
