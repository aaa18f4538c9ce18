"""What would fit better, from figures of elements."""

from __future__ import annotations

import pytest

from shardsynth.executors.slurm.efficiency import _better, _clock
from shardsynth.executors.slurm.used import Used, _bytes, _filled, _seconds

GB = 1024.0**3


def element(**figures):
    had = {"seconds": 600, "cpu_seconds": 590, "cpus": 1, "peak_bytes": 2 * GB, "bytes_asked": 3 * GB}
    return Used(**{**had, "seconds_asked": 900, "state": "COMPLETED", **figures})


@pytest.mark.parametrize(
    ("members", "better"),
    [
        ([element()], {}),
        ([element(), element(cpus=8)], {"cpus": 2}),
        ([element(peak_bytes=2 * GB, bytes_asked=16 * GB)], {"mem_gb": 2.5}),
        ([element(peak_bytes=0.1 * GB, bytes_asked=16 * GB)], {"mem_gb": 0.5}),
        ([element(), element(state="OUT_OF_MEMORY")], {"mem_gb": 6.0}),
        ([element(seconds_asked=86_400)], {"time": '"0:15:00"'}),
        ([element(seconds_asked=None)], {"time": '"0:15:00"'}),
        ([element(), element(seconds=900, cpu_seconds=890, state="TIMEOUT")], {"time": '"0:30:00"'}),
        ([element(peak_bytes=None, bytes_asked=None, cpu_seconds=None)], {}),
    ],
)
def test_what_would_fit_better(members, better):
    assert _better(members, cpus=True) == better


def test_a_training_keeps_its_cpus_and_a_local_run_gets_no_time_limit():
    assert _better([element(cpus=8)], cpus=False) == {}
    assert _better([element(cpus=None, bytes_asked=None, seconds_asked=None)], cpus=True) == {"mem_gb": 2.5}


def test_times_and_sizes_as_slurm_prints_them():
    assert [_seconds(text) for text in ("03:04.250", "01:02:03", "1-02:03:04", "")] == [184.25, 3723, 93784, None]
    assert [_bytes(text) for text in ("1.5G", "900M", "512K", "0", "", "1234")] == [
        1.5 * GB, 900 * 1024**2, 512 * 1024, None, None, 1234
    ]  # fmt: skip
    assert [_clock(seconds) for seconds in (0.4, 3_661, 360_000)] == ["0:00:01", "1:01:01", "4d04h"]


def test_an_element_of_less_than_a_second_took_what_its_tasks_took():
    slurms = Used(0.0, cpu_seconds=1.5, cpus=8, state="COMPLETED")
    assert _filled(slurms, Used(0.9, peak_bytes=5.0), 4).seconds == 0.9
    assert _filled(Used(2.0), Used(0.9), 4).seconds == 2.0
