"""Stock engine: SDV's own synthesizers, fitted and sampled by SDV's own code, with this project's promises.

In SDV itself every sampling starts from one fixed seed, and ids from 0, so parallel tasks make the same rows (SDV
issues 1483 and 2265). Here every chunk seeds each source of randomness from its own seed. Ids and personal columns,
which SDV never sees, are made from the global row number.
"""

from __future__ import annotations

import hashlib
import pickle
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data import frames
from shardsynth.data.columns import Column, schema_from_text, schema_to_text
from shardsynth.data.metadata import TABLE, composite_key, keys_of
from shardsynth.data.values import decoded
from shardsynth.errors import InputError, MetadataError, ModelError
from shardsynth.models.sdv.options import CLASSES, validate_options
from shardsynth.models.sdv.state import held_threads, isolated, no_gpu, seed_synthesizer, silenced
from shardsynth.sampling import identifiers
from shardsynth.standalone.regular import read_regular

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StockModel", "fit_stock", "validate_options"]

#: Rows that SDV samples at a time, so that memory does not grow with the chunk.
BATCH_ROWS = 50_000
#: Attribute under which a stock pickle carries this project's own state.
STATE = "_shardsynth"
#: SDV does not round values with so many decimal places or more.
_UNROUNDED = 14
_LEARNED = ("category", "number", "datetime")


class StockModel:
    """A fitted stock synthesizer, with all that is needed to draw rows of the input's exact schema.

    Attributes:
        family: ``gaussian_copula``, ``copulagan``, ``ctgan`` or ``tvae``.
        schema: The input's Arrow schema.
        columns: One ``Column`` per field.
        generators: Column name -> identifier generator (see ``identifiers``).
        synthesizer: SDV's object; None if no column needs a model.
        versions: Package -> version with which it was fitted.
    """

    def __init__(self, synthesizer: Any, state: dict[str, Any]) -> None:
        self.synthesizer = synthesizer
        self._state = state
        self.family: str = state["family"]
        self.schema: pa.Schema = schema_from_text(state["schema"])
        self.columns = [
            Column(field.name, field.type, sdtype, role, options)
            for field, (sdtype, role, options) in zip(self.schema, state["columns"])
        ]
        self.generators: dict[str, dict[str, Any]] = state["generators"]
        self.versions: dict[str, str] = state["versions"]
        self._categories = {name: pa.array(values, self._plain(name)) for name, values in state["categories"].items()}

    def _plain(self, name: str) -> pa.DataType:
        return self.schema.field(name).type.value_type

    def draw(self, chunk_seed: int, first_row: int, n: int) -> pa.RecordBatch:
        """Rows of one chunk.

        The same arguments give the same rows in any process, whatever was drawn before. Another ``chunk_seed`` gives
        other rows. Computed on one thread of the CPU: the last bits of a matrix product depend on the thread count.

        Args:
            chunk_seed: Seed of the chunk, from ``streams.chunk_seed``.
            first_row: Global number of the chunk's first row, for identifiers.
            n: Number of rows.

        Returns:
            n rows of the input's schema.

        Raises:
            ModelError: SDV cannot sample, or a sampled value does not fit its column's type.
        """
        import pandas as pd
        import torch

        with isolated(chunk_seed), held_threads(1), torch.no_grad():
            pieces = [self._constants(n)]
            if self.synthesizer is not None and n:
                seed_synthesizer(self.synthesizer, chunk_seed, deep=self.family != "gaussian_copula")
                counts = [BATCH_ROWS] * (n // BATCH_ROWS) + [n % BATCH_ROWS]
                sampled = [self._sample(count) for count in counts if count]
                pieces.append(pd.concat(sampled, ignore_index=True) if len(sampled) > 1 else sampled[0])
            frame = pd.concat(pieces, axis=1)
            if not n:
                frame = frame.reindex(columns=[c.name for c in self.columns if c.role in _LEARNED])
        ready = {
            name: identifiers.make(generator, self.schema.field(name).type, first_row, n)
            for name, generator in self.generators.items()
        }
        return frames.to_arrow(
            frame,
            self.schema,
            self.columns,
            ready=ready,
            categories=self._categories,
            nan=self._state["nan"],
            clip=self._state["clip"],
        )

    def _constants(self, n: int) -> pd.DataFrame:
        constants: pd.DataFrame = self._state["constants"]
        return constants.iloc[np.zeros(n, dtype=np.intp)].reset_index(drop=True)

    def _sample(self, n: int) -> pd.DataFrame:
        try:
            frame: pd.DataFrame = self.synthesizer.sample(num_rows=n)[TABLE]
        except Exception as error:
            raise ModelError(f"stock {self.family}: SDV cannot sample {n} rows ({type(error).__name__})") from error
        if len(frame) != n:
            raise ModelError(f"stock {self.family}: SDV made {len(frame)} of {n} rows that meet the constraints")
        return frame.reset_index(drop=True)

    def losses(self) -> pa.Table | None:
        """Training loss by epoch (SDV's ``get_loss_values``); None for a family without a training."""
        if not hasattr(self.synthesizer, "get_loss_values"):
            return None
        return pa.Table.from_pandas(self.synthesizer.get_loss_values(), preserve_index=False)

    def learned_distributions(self) -> dict[str, Any]:
        """SDV's ``get_learned_distributions`` by column; empty for families that learn none."""
        if not hasattr(self.synthesizer, "get_learned_distributions"):
            return {}
        with silenced():
            return dict(self.synthesizer.get_learned_distributions())

    def save(self, path: str | Path) -> str:
        """Write SDV's own pickle, which also holds this object's state; plain SDV loads it too.

        Args:
            path: The file. It is written in place: a task gives a temporary name and renames it when it commits.

        Returns:
            SHA-256 of the file in hexadecimal, for ``load``.
        """
        path = Path(path)
        if self.synthesizer is None:
            path.write_bytes(pickle.dumps({STATE: self._state}))
        else:
            setattr(self.synthesizer, STATE, self._state)
            try:
                with silenced():
                    self.synthesizer.save(str(path))
            finally:
                delattr(self.synthesizer, STATE)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None, trust: bool = False) -> StockModel:
        """Read what ``save`` wrote. Opening a pickle runs code in it, so only a file of a known hash is opened.

        Args:
            path: The pickle.
            sha256: SHA-256 of the file that may be opened; None if none may.
            trust: Open the file whatever its hash is.

        Raises:
            ModelError: The file is missing, has another hash, or is not a model of this project.
        """
        path = Path(path)
        try:
            data = read_regular(path)
        except OSError as error:
            raise ModelError(f"{path}: the stock model cannot be read: {error.strerror}") from None
        if not trust and hashlib.sha256(data).hexdigest() != sha256:
            raise ModelError(
                f"{path}: a stock model is a pickle, which runs code when it is opened, and this one is not signed by "
                "you; fit again, or give --trust-pickle if you know where it comes from"
            )
        synthesizer = unpickle(data, str(path))
        attributes = synthesizer if isinstance(synthesizer, dict) else getattr(synthesizer, "__dict__", {})
        if STATE not in attributes:
            raise ModelError(f"{path}: not a stock model of a run; `shardsynth import-model` takes plain SDV pickles")
        state = attributes.pop(STATE)
        return cls(None if isinstance(synthesizer, dict) else synthesizer, state)


def unpickle(data: bytes, source: str) -> Any:
    """The object in a pickle, on the CPU. The caller has to check first that the pickle can be trusted.

    Args:
        data: The pickle.
        source: Its file, for the error.

    Raises:
        ModelError: It cannot be opened with the installed packages.
    """
    with silenced(), no_gpu():
        try:
            return pickle.loads(data)
        except Exception as error:
            raise ModelError(
                f"{source}: the pickle cannot be opened ({type(error).__name__}: {error}); "
                "it needs the versions of sdv, rdt and torch that wrote it"
            ) from error


def fit_stock(
    family: str,
    options: dict[str, Any],
    table: pa.Table,
    columns: list[Column],
    metadata: dict[str, Any],
    seed: int,
    threads: int = 1,
    schema: pa.Schema | None = None,
) -> StockModel:
    """Fit one of SDV's synthesizers to a table.

    SDV sees only columns that are learned and vary, no ids, personal columns, empty columns or constants. Its metadata
    are reduced to what its models use: sdtypes, decimal places and the order of ordinal categories.

    Args:
        family: ``gaussian_copula``, ``copulagan``, ``ctgan`` or ``tvae``.
        options: By SDV's names; see ``options``.
        table: Training rows; dictionaries may be decoded.
        columns: One per field of the input's schema, in its order, with the input's types.
        metadata: SDV V2 metadata of the input.
        seed: Everything random follows from it; on a CPU the fit is reproducible for one thread count.
        threads: CPU threads of torch and BLAS.
        schema: The input's schema, which every draw has. None: the table's fields with the columns' types; a row
            sample no longer has nullability and field metadata.

    Raises:
        JobError: An unknown or wrong option.
        InputError: No rows, or infinite values.
        MetadataError: The data do not fit the metadata.
        ModelError: SDV cannot be fitted to this table.
    """
    options = validate_options(family, options, [column.name for column in columns])
    if schema is None:
        schema = pa.schema(
            [table.field(column.name).with_type(column.type) for column in columns], table.schema.metadata
        )
    if not len(table):
        raise InputError(f"stock {family}: there are no training rows")
    learned = [column for column in columns if column.role in _LEARNED]
    frame = frames.to_pandas(table.select([column.name for column in learned]), learned)
    _check_finite(frame)
    fixed = [name for name in frame.columns if frame[name].nunique(dropna=False) <= 1]
    varied = frame.drop(columns=fixed)
    state = {
        "family": family,
        "schema": schema_to_text(schema),
        "columns": [(column.sdtype, column.role, column.options) for column in columns],
        "generators": identifiers.learn_all(
            table,
            columns,
            keys_of(metadata),
            seed=seed,
            locales=options.get("locales"),
            composite=composite_key(metadata),
        ),
        "constants": frame[fixed].iloc[:1],
        "categories": {c.name: _categories(c, table[c.name]) for c in learned if pa.types.is_dictionary(c.type)},
        "nan": [c.name for c in learned if _writes_nan(table[c.name])],
        "clip": bool(options.get("enforce_min_max_values", True)),
        "versions": {name: version(name) for name in ("sdv", "rdt", "copulas", "ctgan", "numpy", "pandas", "torch")},
    }
    if varied.empty:
        return StockModel(None, state)
    with isolated(seed), held_threads(threads):
        synthesizer = _fitted(family, options, varied, [column for column in learned if column.name in varied])
        if family != "gaussian_copula":
            synthesizer._model.set_device("cpu")
    return StockModel(synthesizer, state)


def _fitted(family: str, options: dict[str, Any], frame: pd.DataFrame, columns: list[Column]) -> Any:
    import joblib
    import sdv.single_table
    from sdv.errors import InvalidDataError
    from sdv.metadata import Metadata

    described = {column.name: _described(column, frame[column.name]) for column in columns}
    metadata = Metadata.load_from_dict({"tables": {TABLE: {"columns": described}}, "METADATA_SPEC_VERSION": "V2"})
    if options.get("numerical_distributions"):
        chosen = {name: kind for name, kind in options["numerical_distributions"].items() if name in described}
        options = {**options, "numerical_distributions": chosen}
    try:
        synthesizer = getattr(sdv.single_table, CLASSES[family])(metadata, **options)
        with joblib.parallel_config(backend="sequential"):
            synthesizer.fit({TABLE: frame})
    except InvalidDataError as error:
        named = [name for name in described if f"'{name}'" in str(error)]
        raise MetadataError(
            f"SDV refuses the values of column(s) {named}: check their sdtype in the metadata"
        ) from error
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"stock {family} cannot be fitted to {len(frame)} rows x {len(frame.columns)} varying columns: "
            f"SDV stopped with {type(error).__name__}; see the log, and try more rows or another family"
        ) from error
    return synthesizer


def _described(column: Column, series: pd.Series[Any]) -> dict[str, Any]:
    """SDV's metadata of a column, without ranges and categories, which SDV learns from the rows.

    Raises:
        MetadataError: The values do not fit ``decimal_places`` or ``range_values``.
    """
    if column.role == "datetime" and series.dtype.kind != "M":
        return {"sdtype": "numerical"}
    described: dict[str, Any] = {"sdtype": column.sdtype}
    places = column.options.get("decimal_places")
    if column.sdtype == "numerical" and places is not None and places < _UNROUNDED:
        present = series.dropna()
        if not np.array_equal(present, present.round(places)):
            raise MetadataError(
                f"column {column.name!r}: its values have more than the metadata's {places} decimal places"
            )
        described["decimal_places"] = places
    order = column.options.get("range_values")
    if column.sdtype == "ordinal" and order and order != sorted(order, key=lambda v: (str(type(v)), v)):
        present_values = set(series.dropna().unique())
        if not present_values <= set(order):
            raise MetadataError(
                f"column {column.name!r}: {len(present_values - set(order))} values are not in its range_values"
            )
        described["range_values"] = [value for value in order if value in present_values]
    return described


def _check_finite(frame: pd.DataFrame) -> None:
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype.kind == "f" and np.isinf(values).any():
            raise InputError(f"column {name!r}: infinite values; replace them by a number or null")


def _categories(column: Column, values: pa.ChunkedArray) -> list[Any]:
    """The categories that occur, sorted by value; ordinal ones in the order of the metadata."""
    distinct = pc.unique(decoded(values).drop_null())
    distinct = distinct.take(pc.sort_indices(distinct))
    categories = list(distinct.to_pylist())
    order = column.options.get("range_values") or []
    if column.ordered and set(categories) <= set(order):
        categories.sort(key=order.index)
    return categories


def _writes_nan(values: pa.ChunkedArray) -> bool:
    return pa.types.is_floating(values.type) and not values.null_count and bool(pc.any(pc.is_nan(values)).as_py())
