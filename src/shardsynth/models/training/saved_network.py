"""A network in a model's file: its arrays are compared with the network that the card describes before it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from shardsynth.models.columns.checks import Array
from shardsynth.models.columns.files import ARRAYS, ModelFile

Network = TypeVar("Network", bound=nn.Module)

_PREFIX = "network."


def load_network(file: ModelFile, make: Callable[[], Network], widths: Sequence[int]) -> Network:
    """The network of a model's file, ready to make rows.

    Args:
        file: The model's files.
        make: Makes the untrained network.
        widths: Sizes of its layers, which ``make`` takes memory for.

    Raises:
        ModelError: The file's arrays are not those of the network.
    """
    if len(widths) > len(file.arrays) or max(widths, default=0) > max(a.size for a in file.arrays.values()):
        raise file.wrong("the sizes of the layers are not those of the arrays")
    try:
        with torch.device("meta"):  # shapes alone: no memory is taken for sizes that are wrong
            untrained = make().state_dict()
    except (RuntimeError, OverflowError, TypeError):
        raise file.wrong("the sizes of the layers are not those of a network") from None
    wanted = {f"{_PREFIX}{key}": _array(key, value) for key, value in untrained.items()}
    file.check(wanted)
    network = make()
    network.load_state_dict({key: torch.from_numpy(file.arrays[f"{_PREFIX}{key}"]) for key in untrained})
    network.eval()
    for parameter in network.parameters():
        if not torch.isfinite(parameter).all():
            raise file.wrong("a weight of the network is not finite", ARRAYS)
    return network


def _array(key: str, value: torch.Tensor) -> Array:
    array = Array(str(value.dtype).removeprefix("torch."), tuple(value.shape))
    return replace(array, minimum=0.0) if key.endswith(("running_var", "num_batches_tracked")) else array
