from __future__ import annotations

import pytest

from shardsynth.executors.slurm.commands import exit_status


@pytest.mark.parametrize(
    ("text", "code", "by_signal"),
    [
        ("0", 0, 0),
        ("7168", 28, 0),
        ("9", 0, 9),
        ("139", 0, 11),  # 128: it left a core file
        ("0:0", 0, 0),
        ("28:0", 28, 0),
        ("0:9", 0, 9),
        ("0:125", 0, 125),
        ("", 0, 0),
        ("N/A", 0, 0),
    ],
)
def test_an_exit_status_is_read_in_the_forms_of_old_and_new_slurm(text: str, code: int, by_signal: int) -> None:
    assert exit_status(text) == (code, by_signal)
