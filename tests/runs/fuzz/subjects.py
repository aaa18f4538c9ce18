"""The one list of what is fuzzed."""

from __future__ import annotations

from tests.runs.fuzz import import_files, job_files, metadata_files, run_trees
from tests.runs.fuzz.frame import Subject

SUBJECTS: tuple[Subject, ...] = (run_trees.SUBJECT, job_files.SUBJECT, metadata_files.SUBJECT, import_files.SUBJECT)
