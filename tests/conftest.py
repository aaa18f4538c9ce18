"""Tiers by folder, one group of tests a worker, one thread a process; what all tiers' tests share is in fixtures."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers of two spinning OpenMP threads each on two cores run seven times slower. Before torch is imported;
    # a test about threads sets its own number, and so does every process that a run starts.
    for _name, _value in (("OMP_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0")):
        os.environ.setdefault(_name, _value)

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests import tools

# scikit-learn counts the cores by starting `lscpu`, once a process, unless it is told fewer than there are.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
#: Pickles of the tests' runs are signed by a key of this session, not by that of the person who runs the tests.
_KEYS = tempfile.TemporaryDirectory(prefix="shardsynth-key-")
os.environ["SHARDSYNTH_KEY"] = f"{_KEYS.name}/key"

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


#: Folders whose tests share what is costly to make: the finished run; the cluster and the image. The first that fits
#: counts. Tests of what sites do otherwise have a cluster of their own on the other worker: together they take too long.
TOGETHER = {
    "runs/finished": "finished",
    "site/slurm/sites": "second cluster",
    "site/slurm": "cluster and image",
    "site/container": "cluster and image",
}


class ByFile(LoadScopeScheduling):
    """Gives each worker whole files, and all of a folder of ``TOGETHER`` to one worker.

    Not ``--dist loadgroup``: pytest 9.2 does not show pytest-xdist 3.8 the groups, and says nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        inside = path.partition("tests/")[2]
        return next((group for folder, group in TOGETHER.items() if inside.startswith(f"{folder}/")), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """The scheduler of this suite."""
    return ByFile(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with its folder's tier."""
    tier = tier_of(item.path)
    if not tier:
        raise pytest.UsageError(f"{item.path}: a test belongs into one of tests/{{{','.join(TIERS)}}}/")
    item.add_marker(tier)
    shares = {"finished", "session_cluster", "image"} & set(getattr(item, "fixturenames", ()))
    if shares and not any(item.path.is_relative_to(HERE / folder) for folder in TOGETHER):
        raise pytest.UsageError(f"{item.path}: it asks for {shares}, so it belongs into one of {', '.join(TOGETHER)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tiers come first."""
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
