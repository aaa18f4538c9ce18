"""Tiers by folder, one group of tests a worker, one thread a process; what all tiers' tests share is in fixtures."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers of two spinning OpenMP threads each on two cores run seven times slower. Before torch is imported;
    # a test about threads sets its own number, and so does every process that a run starts.
    for _name, _value in (("OMP_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0")):
        os.environ.setdefault(_name, _value)

import pytest
from hypothesis import settings

from tests import tools

#: One cluster for all folders whose tests need a Slurm, one finished run for all tests that only read it.
pytest_plugins = ["tests.unit_guard", "tests.site.slurm.fixtures", "tests.finished"]

# A busy machine is no failure: what a test may take in all is said elsewhere.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

HERE = Path(__file__).parent
#: In the order in which they run: the long ones first, so that no worker waits for the last of them.
TIERS = ("site", "runs", "stock", "quality", "unit")


def tier_of(path: Path) -> str:
    """The tier of a test file: the first folder of its path under tests/."""
    inside = path.relative_to(HERE).parts
    return inside[0] if inside[0] in TIERS else ""


def group_of(item: pytest.Item) -> str:
    """Tests of one group run on one worker: those of a file, and all that share what is costly to make."""
    fixtures = set(getattr(item, "fixturenames", ()))
    if fixtures & {"session_cluster", "image"}:
        return "cluster and image"
    return "finished" if "finished" in fixtures else str(item.path.relative_to(HERE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder's tier and its group; the long tiers come first."""
    for item in items:
        tier = tier_of(item.path)
        if not tier:
            raise pytest.UsageError(f"{item.path}: a test belongs into one of tests/{{{','.join(TIERS)}}}/")
        item.add_marker(tier)
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: TIERS.index(tier_of(item.path)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Seconds of each tier, all workers' together."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.split("/")[1]] += report.duration
    if seconds:
        told = ", ".join(f"{tier} {seconds[tier]:.0f}" for tier in sorted(seconds))
        terminalreporter.write_line(f"seconds of tests by tier, workers added up: {told}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine lacks a tool for."""
    for mark in item.iter_markers("needs"):
        tools.require(*mark.args)


@pytest.fixture(scope="session")
def adult_dir() -> Path:
    """Four real shards, 32,561 x 15."""
    return tools.shared_folder("adult")


@pytest.fixture(scope="session")
def mds_dir() -> Path:
    """Three real shards, 2,957 x 68."""
    return tools.shared_folder("mds")
