"""The one list of what is fuzzed."""

from __future__ import annotations

from tests.runs.fuzz import run_trees
from tests.runs.fuzz.frame import Subject

SUBJECTS: tuple[Subject, ...] = (run_trees.SUBJECT,)
