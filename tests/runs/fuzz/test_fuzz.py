"""300 tries of each subject: only right results or clear errors, within time and memory."""

from __future__ import annotations

import pytest
from tests.runs.fuzz.frame import Subject, run
from tests.runs.fuzz.subjects import SUBJECTS

TRIES = 300


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_try_ends_well(subject: Subject, tmp_path):
    outcomes = run(subject, subject.prepare(tmp_path), range(TRIES))
    assert not outcomes.findings, "\n".join(f"{number}: {what}" for number, what in outcomes.findings[:20])
    # both ways out are taken: else the tries would not test what they should
    assert len(outcomes.counts) > 1, outcomes.counts
