"""What tests need of the processes that they start."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """As ``preexec_fn``: Ctrl-C and hang-ups count, though what runs in the background inherits that they do not."""
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
