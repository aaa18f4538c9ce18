"""Options of a native fit, and the rows and steps of a fit under dp, which depend on the size of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardsynth.data.coding import TableCoder
from shardsynth.job import Job
from shardsynth.models.families import NATIVE

if TYPE_CHECKING:
    from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan


def native_options(job: Job, name: str) -> dict[str, Any]:
    """Options of a native fit: those of the model, and the job's ``rare`` and ``extremes`` where it has none."""
    return {
        "rare": {"min_count": job.rare.min_count, "as": job.rare.as_},
        "extremes": job.extremes,
        **job.models[name].options,
    }


def has_tails(job: Job) -> bool:
    """Whether a native model of the job fits tails (``extremes: tail``): then the columns are coded for them."""
    native = (name for name, model in job.models.items() if model.engine == "native")
    return job.privacy is None and any(native_options(job, name)["extremes"] == "tail" for name in native)


def is_trained(job: Job) -> bool:
    """Whether the model of a job under dp is trained, not made from noisy tables alone."""
    ((_, model),) = job.models.items()
    return NATIVE[model.model].trains


def expected_rows(job: Job, rows: int) -> int:
    """Number of training rows, as publicly known.

    They are not counted: with a holdout of whole persons, the key of a single row decides whether it is a training row.

    Args:
        job: A job under dp.
        rows: Rows of the input.
    """
    return round(rows * (1 - job.evaluate.holdout))


def training_plan(job: Job, coder: TableCoder, rows: int) -> DpTrainingPlan | None:
    """Sizes and steps of a training under dp; None where the job's model is not trained.

    Args:
        job: Any job.
        coder: The public codes.
        rows: Rows of the input.
    """
    from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan

    ((name, _),) = job.models.items()
    if job.privacy is None or not is_trained(job):
        return None
    fit_rows = expected_rows(job, rows)
    fit_rows = fit_rows if job.fit.rows == "all" else min(fit_rows, job.fit.sample_rows)
    return DpTrainingPlan.of(native_options(job, name), coder, fit_rows, job.privacy.epsilon, job.privacy.delta)
