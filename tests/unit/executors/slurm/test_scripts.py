from __future__ import annotations

import pytest

from shardsynth.errors import JobError
from shardsynth.executors.slurm.script import options
from shardsynth.executors.slurm.times import minutes
from shardsynth.job import Resources


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 90), ("1:30", 1.5), ("1:30:00", 90), ("2-12", 3600), ("1-0:30", 1470), ("0-0:00:30", 0.5)],
)
def test_times_in_slurms_notation(text, wanted):
    assert minutes(text) == wanted


@pytest.mark.parametrize("text", ["4 hours", "1h", "", "1:2:3:4", "-5", "1-", "1:30\n"])
def test_other_times_are_refused(text):
    with pytest.raises(JobError, match="not Slurm's notation"):
        minutes(text)


def test_nothing_that_a_job_file_holds_becomes_a_second_line_of_a_script():
    for asked in (
        {"partition": "cpu\n#SBATCH --account=boss"},
        {"account": "a;b\n"},
        {"options": {"comment": "x\ny"}},
        {"options": {"comment": "$(id)"}},
        {"options": {"wrap": "id"}},
        {"options": {"nice\n": True}},
    ):
        with pytest.raises(JobError):
            options(Resources(**asked), 1)
    assert "--reservation=course" in options(Resources(options={"reservation": "course"}), 1)
    assert not [o for o in options(Resources(options={"exclusive": True}), 1) if o.startswith("--cpus")]
