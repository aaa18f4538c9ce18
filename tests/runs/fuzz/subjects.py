"""All subjects of the fuzz."""

from __future__ import annotations

from tests.runs.fuzz import conditions, import_files, job_files, metadata, model_files, run_trees, tables_models
from tests.runs.fuzz.frame import Subject

SUBJECTS: tuple[Subject, ...] = (
    model_files.SUBJECT,
    run_trees.SUBJECT,
    job_files.SUBJECT,
    metadata.SUBJECT,
    conditions.SUBJECT,
    import_files.SUBJECT,
    tables_models.SUBJECT,
)
