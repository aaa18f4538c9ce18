"""What submitit left in a run directory is read as plain data."""

from __future__ import annotations

import pickle
from pathlib import Path

import cloudpickle
import pytest
from submitit.core.utils import DelayedSubmission

from shardsynth.errors import RunError
from shardsynth.executors.slurm.jobs import load_plain
from shardsynth.executors.slurm.pickled import Element, run_element


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_result_that_would_run_code_is_not_opened(tmp_path):
    path, marker = tmp_path / "1_0_0_result.pkl", tmp_path / "marker"
    path.write_bytes(pickle.dumps(("success", Payload(marker))))
    with pytest.raises(RunError, match="more than plain data"):
        load_plain(path)
    path.write_bytes(b"not a pickle")
    with pytest.raises(RunError, match="not opened"):
        load_plain(path)
    assert not marker.exists()


def test_results_and_what_an_element_is_asked_are_opened(tmp_path):
    path = tmp_path / "1_0_submitted.pkl"
    element = Element("/runs/mine", "sample", "0-9,12")
    DelayedSubmission(run_element, element).dump(path)
    assert path.stat().st_size < 1000
    loaded = load_plain(path)
    assert (type(loaded.function), loaded.args) == (type(run_element), (element,))
    path.write_bytes(cloudpickle.dumps(("success", {"stage": "fit", "tasks": "0", "seconds": 1.5})))
    assert load_plain(path) == ("success", {"stage": "fit", "tasks": "0", "seconds": 1.5})


def test_what_submitit_queues_again_is_the_same_element():
    element = Element("/runs/mine", "sample", "0-9,12")
    again = run_element.checkpoint(element)
    assert (again.function, again.args) == (run_element, (element,))
