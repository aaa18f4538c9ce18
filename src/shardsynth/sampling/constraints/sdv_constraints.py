"""SDV's own constraint objects. They check the declarations, the row sample and every row that is written.

Our steps do only their arithmetic, fast and row by row. What a constraint means is what SDV's ``is_valid`` says.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.metadata import TABLE, for_sdv
from shardsynth.errors import JobError, of_library
from shardsynth.sampling.constraints.classes import find_class
from shardsynth.sampling.constraints.declared import columns_in, describe, is_programmed

Declared = Mapping[str, Any]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def build(declared: Declared, number: int) -> Any:
    """SDV's object for a declaration.

    Args:
        declared: ``class_name`` and ``parameters``.
        number: Its place in the job, for errors.

    Raises:
        JobError: SDV refuses the parameters, or the user's class cannot be imported.
    """
    parameters = {**declared["parameters"]}
    with _quiet():
        import sdv.cag
        from sdv.cag.programmable_constraint import ProgrammableConstraintHarness

        try:
            if is_programmed(declared):
                return ProgrammableConstraintHarness(find_class(declared["class_name"])(**parameters))
            parameters["table_name"] = None
            return getattr(sdv.cag, declared["class_name"]).load_constraint_from_dict(parameters)
        except JobError:
            raise
        except Exception as error:
            if is_programmed(declared):  # the user's own code, which may have read the table
                raise JobError(f"{describe(declared, number)}: its class cannot be made: {of_library(error)}") from None
            raise JobError(f"{describe(declared, number)}: SDV refuses it: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def sdv_metadata(metadata: Mapping[str, Any]) -> Any:
    """SDV's ``Metadata`` object of metadata in its V2 JSON form."""
    with _quiet():
        from sdv.metadata import Metadata

        return Metadata.load_from_dict(for_sdv(dict(metadata)))


def check_metadata(declared: Sequence[Declared], metadata: Mapping[str, Any]) -> None:
    """SDV's own validation of constraints against the metadata.

    Raises:
        JobError: With SDV's reason.
    """
    sdv_object = sdv_metadata(metadata)
    for number, declaration in enumerate(declared):
        constraint = build(declaration, number)
        try:
            with _quiet():
                constraint.validate(metadata=sdv_object)
        except Exception as error:
            raise JobError(f"{describe(declaration, number)}: {_first_line(error)}") from None


class SdvConstraints:
    """SDV's objects for the constraints of SDV's own classes, fitted on the row sample.

    Args:
        declared: All constraints of the job. Those of a user's class are left out.
        sample: The row sample.
        columns: The table's columns.
        metadata: The table's metadata.

    Raises:
        JobError: SDV refuses the row sample.
    """

    def __init__(
        self, declared: Sequence[Declared], sample: pa.Table, columns: Sequence[Column], metadata: Mapping[str, Any]
    ) -> None:
        sdv_object = sdv_metadata(metadata)
        by_name = {column.name: column for column in columns}
        self._columns: list[list[Column]] = []
        self._constraints: list[Any] = []
        self._numbers: list[int] = []
        for number, declaration in enumerate(declared):
            if is_programmed(declaration):
                continue
            constraint = build(declaration, number)
            constrained = [by_name[name] for name in columns_in(declaration)]
            try:
                with _quiet():
                    constraint.fit({TABLE: self._frame(declaration, sample, constrained)}, sdv_object)
            except Exception as error:
                raise JobError(
                    f"{describe(declaration, number)}: SDV refuses the row sample ({type(error).__name__}); "
                    "the data must satisfy the constraint"
                ) from error
            self._columns.append(constrained)
            self._constraints.append(constraint)
            self._numbers.append(number)
        self._declared = [declared[number] for number in self._numbers]

    @staticmethod
    def _frame(declared: Declared, rows: pa.Table | pa.RecordBatch, columns: Sequence[Column]) -> Any:
        frame = frames.to_pandas(rows.select([column.name for column in columns]), columns)
        # pandas merges by value only where the dtypes agree, and a batch without gaps has other dtypes.
        return frame.astype(object) if declared["class_name"] == "FixedCombinations" else frame

    def valid(self, batch: pa.RecordBatch) -> dict[int, np.ndarray[Any, Any]]:
        """Place of a constraint in the job -> bool[n], the rows that SDV calls valid."""
        masks = {}
        for number, declaration, constraint, columns in zip(
            self._numbers, self._declared, self._constraints, self._columns
        ):
            with _quiet():
                mask = constraint.is_valid({TABLE: self._frame(declaration, batch, columns)})[TABLE]
            masks[number] = np.asarray(mask, dtype=np.bool_)
        return masks
