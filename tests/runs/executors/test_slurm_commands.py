from __future__ import annotations

import pytest

from shardsynth.executors.slurm.commands import SlurmError


def test_a_wrong_partition_at_the_last_moment_keeps_what_slurm_said():
    with pytest.raises(SlurmError, match="not found"):
        from shardsynth.executors.slurm.commands import call

        call("no-such-command")
