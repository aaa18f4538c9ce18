"""Persons in the stages: hashes of the persons of rows, and empty counts of them; None where the job names nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.planning.persons import least_persons, persons_counted
from shardsynth.planning.plan import Plan
from shardsynth.report.shown import RowPeople
from shardsynth.run.artifacts import Artifacts
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.few_persons import Rows, RowsOfFew, without_few
from shardsynth.summaries.person_counts import PersonCounts
from shardsynth.summaries.persons import Hashes, hash_persons
from shardsynth.summaries.profile import Profile


def row_persons(plan: Plan, batch: pa.RecordBatch, row: int) -> Hashes | None:
    """Hashes of the persons of a batch as ``stages.rows`` reads it; ``row`` is the global number of its first row."""
    if plan.job.person is None:
        return None
    numbers = np.arange(row, row + batch.num_rows, dtype=np.uint64)
    return hash_persons(plan.job.seed, batch.column(plan.job.person), numbers)


def profile_persons(plan: Plan, profile: Profile) -> Hashes | None:
    """Hashes of the persons of the rows of a profile's sample."""
    if plan.job.person is None:
        return None
    return hash_persons(plan.job.seed, profile.sample.column(plan.job.person), profile.sample_row_numbers)


def sample_persons(artifacts: Artifacts, name: str) -> Hashes | None:
    """Those of the row sample of the ``train`` or ``holdout`` rows."""
    persons: Hashes | None = artifacts.cached(
        f"sample persons {name}", lambda: profile_persons(artifacts.plan, artifacts.profile(name))
    )
    return persons


def no_persons(artifacts: Artifacts, coder: TableCoder, name: str, *, pairs: bool) -> PersonCounts | None:
    """Counts of no persons on the codes of ``coder``, for the ``train`` or ``holdout`` rows.

    Args:
        artifacts: Of the run.
        coder: The codes.
        name: ``train`` or ``holdout``.
        pairs: Whether pairs of codes are counted.
    """
    persons = sample_persons(artifacts, name)
    if persons is None:
        return None
    return PersonCounts(coder, persons_counted(artifacts.plan.job), len(np.unique(persons)), pairs)


def row_people(artifacts: Artifacts) -> RowPeople | None:
    """The training rows of the row sample in codes, with their persons."""

    def load() -> RowPeople | None:
        persons = sample_persons(artifacts, "train")
        return (
            None if persons is None else RowPeople(artifacts.coder().encode(artifacts.profile("train").sample), persons)
        )

    people: RowPeople | None = artifacts.cached("row people", load)
    return people


@dataclass(frozen=True)
class FitProtection:
    """What a fit gets in place of exact counts and rows, so that it learns nothing that too few persons have.

    Attributes:
        counts: The counts.
        rows: Takes it out of rows; None where rows are learned as they are.
    """

    counts: Counts
    rows: RowsOfFew | None = None

    @property
    def hide(self) -> Callable[[Rows], Rows] | None:
        """See ``Fitting.hide``."""
        return None if self.rows is None else self.rows.taken_out

    def notes(self) -> list[str]:
        """A fact for the report, after the fit."""
        if self.rows is None or not self.rows.swapped:
            return []
        share = self.rows.swapped / self.rows.values
        return [f"{share:.2%} of the values trained on were swapped: too few persons have their combination"]


def fit_protection(artifacts: Artifacts, model: str, counts: Counts) -> FitProtection:
    """The protection of one model's fit from ``counts`` of the training rows."""
    least = least_persons(artifacts.plan.job, model)
    if counts.persons is None or least <= 1:
        return FitProtection(counts)
    return FitProtection(without_few(counts, least), RowsOfFew(counts, least, artifacts.plan.job.seed))
