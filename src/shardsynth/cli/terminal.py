"""Standard streams, and what several commands print."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from shardsynth.api import Run


def open_standard_streams() -> None:
    """Open standard streams that are closed, on the null device.

    A service manager may start the process without them. The next file opened would take their number, and what is
    printed would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def progress_console() -> Console:
    """Console for progress: on standard error, so that results alone stand on standard output."""
    from rich.console import Console

    return Console(stderr=True)


class StepLine:
    """What a command is doing, on standard error: on a terminal one line that is overwritten, elsewhere now and then.

    Attributes:
        seconds: Elsewhere than on a terminal, the least time between two lines.
    """

    seconds = 2.0

    def __init__(self) -> None:
        self._console, self._shown = progress_console(), -self.seconds

    def __call__(self, step: str) -> None:
        """Show a step."""
        if self._console.is_terminal:
            self._console.print(f"{step} ...".ljust(60), end="\r", highlight=False)
        elif time.monotonic() - self._shown >= self.seconds:
            self._console.print(f"{step} ...", highlight=False)
            self._shown = time.monotonic()


def print_summary(run: Run) -> None:
    """Print the scores of a finished run and where its report is."""
    for line in run.summary_lines():
        print(line)
