"""The one list of what is fuzzed."""

from __future__ import annotations

from tests.runs.fuzz import conditions, metadata, model_files
from tests.runs.fuzz.frame import Subject

SUBJECTS: tuple[Subject, ...] = (model_files.SUBJECT, conditions.SUBJECT, metadata.SUBJECT)
