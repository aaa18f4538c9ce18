"""Arrays of training rows: in memory, or in files that are mapped into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def new_array(scratch: Path | None, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of zeros, mapped from a new file ``.<name>.tmp`` of the folder ``scratch`` if there is one."""
    if scratch is None or 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(scratch / f".{name}.tmp", dtype, "w+", shape=shape)
