"""The event column of a survival analysis, counted while planning: which of its codes is the event?"""

from __future__ import annotations

from shardsynth.data.shards import Dataset, read_batches
from shardsynth.data.values import kind_of
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.metrics.survival import event_codes

#: Most codes whose rows are listed; more are no codes of an event.
_MOST_CODES = 12


def check_event_codes(job: Job, dataset: Dataset) -> None:
    """Check that it is known which code of the event column means that the event happened.

    Without ``value:`` that is 1 (or true), so codes other than 0 and 1 are refused: R has 1 for censored and 2 for
    dead, and a code 2 beside 0 and 1 is another end, such as death of another cause.

    Raises:
        JobError: A column without ``value`` has other codes, or no row has the ``value``. The message says how many
            codes there are and the rows of each, never a code.
    """
    survival = job.evaluate.survival
    if survival is None or survival.event not in dataset.schema.names:
        return
    kind = kind_of(dataset.schema.field(survival.event).type)
    if survival.value is None and kind not in ("integer", "float", "decimal"):
        return
    codes = _codes(dataset, survival.event)
    known = {"0", "1"} if survival.value is None else {survival.value}
    if survival.value is None and set(codes) <= known:
        return
    if survival.value is not None and (survival.value in codes or not codes):
        return
    rows = sorted(codes.values(), reverse=True)
    listed = ", ".join(f"{count:,}" for count in rows[:_MOST_CODES]) + (", ..." if len(rows) > _MOST_CODES else "")
    if survival.value is None:
        raise JobError(
            f"evaluate.survival.event: {survival.event!r} has {len(rows):,} codes (on {listed} rows) and not 0 and 1 "
            "alone; say which one is the event, as in `value: 2`; rows with another one are censored"
        )
    raise JobError(
        f"evaluate.survival.value: no row of {survival.event!r} has it; the column has {len(rows):,} codes "
        f"(on {listed} rows)"
    )


def _codes(dataset: Dataset, name: str) -> dict[str, int]:
    """Codes of the column as text -> rows of each, over all shards."""
    counts: dict[str, int] = {}
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema, names={name}):
            for entry in event_codes(batch.column(0)).drop_null().value_counts().to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return counts
