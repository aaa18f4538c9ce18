"""Options once the input's size is known: those of a native fit, rows and steps under differential privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardsynth.data.coding import TableCoder
from shardsynth.job import Job
from shardsynth.models.families import NATIVE

if TYPE_CHECKING:
    from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan


def native_options(job: Job, name: str) -> dict[str, Any]:
    """Options of a native fit: the model's own, and the job's protections."""
    return {
        "rare": {"min_count": job.rare.min_count, "as": job.rare.as_},
        "extremes": job.extremes,
        **job.models[name].options,
    }


def is_trained(job: Job) -> bool:
    """Whether the model of a job with a privacy budget is trained, and not made of noisy tables alone."""
    ((_, model),) = job.models.items()
    return NATIVE[model.model].trains


def expected_rows(job: Job, rows: int) -> int:
    """Training rows, as publicly known: not counted, as with ``evaluate.group`` a row's own key says where it goes.

    Args:
        job: A job with a privacy budget.
        rows: Rows of the input.
    """
    return round(rows * (1 - job.evaluate.holdout))


def training_plan(job: Job, coder: TableCoder, rows: int) -> DpTrainingPlan | None:
    """Sizes and steps of a private training; None where the job's model is not trained.

    Args:
        job: A job with a privacy budget.
        coder: The public codes.
        rows: Rows of the input.
    """
    from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan

    ((name, _),) = job.models.items()
    if job.privacy is None or not is_trained(job):
        return None
    kept = expected_rows(job, rows)
    kept = kept if job.fit.rows == "all" else min(kept, job.fit.sample_rows)
    return DpTrainingPlan.of(native_options(job, name), coder, kept, job.privacy.epsilon, job.privacy.delta)
