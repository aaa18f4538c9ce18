"""Pytest plugin: under ``SHARDSYNTH_NO_SKIP=1`` a skipped test has failed.

A test may skip where a tool or ``../shared/data`` is missing, so that everybody can run the suite. CI has to have
them all: there, such a skip would be a hole that nobody sees. The one thing that no machine can install is a GPU, so
a skip whose reason names it stays a skip.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


def _refuse(report: Any) -> None:
    """Turn a skip into a failure that gives the skip's reason."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get("SHARDSYNTH_NO_SKIP") != "1":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if "GPU" in reason:
        return
    report.outcome = "failed"
    report.longrepr = f"SHARDSYNTH_NO_SKIP=1 and the test was skipped: {reason}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _refuse(report)
    return report
