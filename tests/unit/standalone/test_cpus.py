"""The environment of processes that compute."""

from __future__ import annotations

import pytest

from shardsynth.standalone.cpus import thread_environment


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert thread_environment(3)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert thread_environment(3)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert thread_environment(3)["OMP_WAIT_POLICY"] == "ACTIVE"
