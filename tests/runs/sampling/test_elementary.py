"""The normal distribution by elementary operations, against mpmath and scipy."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import hashlib, numpy as np
from shardsynth.sampling import elementary
u = (np.arange(1, 20001) - 0.5) / 20000
low, high = np.repeat(np.linspace(-12, 12, 200), 100) , np.repeat(np.linspace(-11, 30, 200), 100)
parts = [elementary.exp(u * -30), elementary.log(u), elementary.quantile(u), elementary.Truncated(low, high).draw(u)]
parts.append(elementary.interval(low, high).log_probability)
print(hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest())
"""


def test_the_same_bits_for_every_vector_unit():
    disabled = ("", "X86_V4 AVX512_ICL AVX512_SPR", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR")
    digests = set()
    for features in disabled:
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": features}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1
