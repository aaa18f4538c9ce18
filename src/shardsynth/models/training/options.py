"""Options of all native families that are trained."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from typing import Any, Literal

from pydantic import Field

from shardsynth.models.columns.options import NativeOptions


class TrainedOptions(NativeOptions):
    """Options that all native families with a training take."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it is trained; `auto`: on a GPU if any.")
    verbose: Any = Field(None, exclude=True, description="SDV's option; changes nothing here.")
