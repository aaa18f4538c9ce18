"""Constraints of a user's own, as a job names them: ``tests/own_constraints.py:Total``."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sdv.cag import SingleTableProgrammableConstraint


class Total(SingleTableProgrammableConstraint):
    """``total`` is the sum of two parts: it is left out, and added up again."""

    def __init__(self, total: str, parts: list[str]) -> None:
        self.total, self.parts = total, parts
        self.table_name = None

    def validate_input_data(self, data: pd.DataFrame) -> None:
        return

    def transform(self, data: pd.DataFrame) -> pd.DataFrame:
        return data.drop(columns=self.total)

    def get_updated_metadata(self, metadata):
        described = metadata.to_dict()
        (table,) = described["tables"].values()
        del table["columns"][self.total]
        return type(metadata).load_from_dict(described)

    def reverse_transform(self, transformed_data: pd.DataFrame) -> pd.DataFrame:
        parts = transformed_data[self.parts].sum(axis=1, skipna=False)
        return transformed_data.assign(**{self.total: parts})

    def is_valid(self, synthetic_data: pd.DataFrame) -> pd.Series:
        parts = synthetic_data[self.parts].sum(axis=1, skipna=False)
        total = synthetic_data[self.total]
        return pd.Series(np.isclose(parts, total) | (parts.isna() & total.isna()), index=synthetic_data.index)


class Even(SingleTableProgrammableConstraint):
    """A column is even: nothing is transformed, odd rows are drawn again."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.table_name = None

    def transform(self, data: pd.DataFrame) -> pd.DataFrame:
        return data

    def get_updated_metadata(self, metadata):
        return metadata

    def reverse_transform(self, transformed_data: pd.DataFrame) -> pd.DataFrame:
        return transformed_data

    def is_valid(self, synthetic_data: pd.DataFrame) -> pd.Series:
        return synthetic_data[self.column] % 2 == 0
