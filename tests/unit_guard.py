"""Holds the tier `unit` to what it promises: no training, no import of SDV, no other process.

A unit test that does one of these fails: it belongs into another tier (README.md). Imports are seen where unit tests
run alone, as `make check` does; beside other tiers' tests the modules are there anyway.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest

STOCK = ("sdv", "rdt", "ctgan", "copulas", "deepecho", "sdmetrics")
_PROCESSES = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")


@dataclass
class _Watch:
    """What the running test has done that a unit test may not."""

    on: bool = False
    alone: bool = False
    seen: list[str] = field(default_factory=list)

    def saw(self, what: str) -> None:
        if self.on:
            self.seen.append(what)


_watch = _Watch()


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _PROCESSES:
        _watch.saw(f"started a process ({event} {arguments[0] if arguments else ''})")


sys.addaudithook(_heard)


def _watch_optimisers() -> None:
    optimisers = sys.modules.get("torch.optim.optimizer")
    if optimisers is not None and not hasattr(optimisers, "_unit_guard"):
        hook = optimisers.register_optimizer_step_pre_hook
        optimisers._unit_guard = hook(lambda *_: _watch.saw("trained (an optimiser made a step)"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Whether all of this process's tests are unit tests."""
    _watch.alone = all(item.get_closest_marker("unit") for item in session.items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Watch from before the test's first fixture on."""
    _watch_optimisers()
    _watch.on, _watch.seen = item.get_closest_marker("unit") is not None, []
    try:
        return (yield)
    finally:
        _watch.on = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail the test that did what its tier forbids."""
    result = yield
    if _watch.on and _watch.alone:
        _watch.seen.extend(f"imported {name}, or its fixture or file did" for name in STOCK if name in sys.modules)
    if _watch.on and _watch.seen:
        pytest.fail(f"a unit test may not do this (tests/README.md): it {_watch.seen[0]}", pytrace=False)
    return result
