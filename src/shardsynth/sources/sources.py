"""A fitted model as a source of rows by their global numbers: native, stock, under constraints, under conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from shardsynth.errors import ModelError
from shardsynth.job import Job
from shardsynth.models.base import NativeModel, PreparedConditions, with_coded_text
from shardsynth.models.columns.card import ProvenanceCard, parsed, read_model_json
from shardsynth.models.families import load_native
from shardsynth.planning.quotas import Block
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.constraint_card import read_card
from shardsynth.run.trust import signed_sha256
from shardsynth.sampling.conditions import Conditions, parse_conditions
from shardsynth.sampling.constraints.conditions import split_conditions
from shardsynth.sampling.constraints.rejection import ConstrainedRows, piece_rows
from shardsynth.sampling.constraints.table import TableConstraints
from shardsynth.sampling.streams import chunk_seed
from shardsynth.sources.blocks import blocks_of

if TYPE_CHECKING:
    from shardsynth.models.sdv.synthesizers import StockModel

#: Rows that are drawn at once.
BATCH_ROWS = 65_536


class Source(Protocol):
    """Rows by their global number: a row is the same in whatever range it is drawn."""

    schema: pa.Schema
    dictionary_columns: list[str] | None = None  # for the writer; None: it chooses
    device: str = "cpu"  # where the rows are made
    known_columns: frozenset[str] = frozenset()  # columns whose values are given, not made

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """The rows, in order, in the input's schema."""

    def acceptance(self) -> dict[str, Any] | None:
        """Proposals made and accepted for conditions since the last call; None without conditions."""

    def for_writing(self) -> Source:
        """The same rows in the types that are fastest to write (see ``with_coded_text``)."""
        return self


class NativeSource(Source):
    """Rows of a native model."""

    def __init__(self, model: NativeModel, seed: int, conditions: PreparedConditions | None = None) -> None:
        self.model, self.seed, self.conditions, self.device = model, seed, conditions, model.device
        self.schema: pa.Schema = model.schema
        self.dictionary_columns = model.dictionary_columns
        self._for_writing: NativeSource | None = None

    def for_writing(self) -> NativeSource:
        """See ``Source``."""
        if self.conditions is not None:
            return self
        if self._for_writing is None:
            self._for_writing = NativeSource(with_coded_text(self.model), self.seed)
        return self._for_writing

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        for first in range(rows.start, rows.stop, BATCH_ROWS):
            yield self.model.draw(self.seed, first, min(BATCH_ROWS, rows.stop - first), conditions=self.conditions)

    def acceptance(self) -> dict[str, int] | None:
        """Proposals made and accepted for conditions since the last call."""
        return None if self.conditions is None else self.conditions.acceptance()

    @property
    def block(self) -> int:
        """Rows that are drawn together under constraints."""
        return BATCH_ROWS // 2

    def spare(self, block: int, piece: int, rows: int) -> pa.RecordBatch:
        """Piece of the spare stream of a block."""
        seed = chunk_seed(self.seed, f"again {block}", piece)
        return self.model.draw(seed, 0, rows, conditions=self.conditions)


class StockSource(Source):
    """Rows of a stock synthesizer: it draws whole chunks, each from its own seed; they are cut to the range."""

    def __init__(self, model: StockModel, seed: int, name: str, chunk_rows: int) -> None:
        self.model, self.seed, self.name, self.chunk_rows = model, seed, name, chunk_rows
        self.schema: pa.Schema = model.schema

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        if not rows:
            return
        size = self.chunk_rows
        for chunk in range(rows.start // size, -(-rows.stop // size)):
            first = chunk * size
            batch = self.model.draw(chunk_seed(self.seed, self.name, chunk), first, size)
            begin, end = max(0, rows.start - first), min(size, rows.stop - first)
            yield batch.slice(begin, end - begin)

    def acceptance(self) -> dict[str, int] | None:
        """None: a stock model takes no conditions."""
        return None

    @property
    def block(self) -> int:
        """Rows that are drawn together under constraints."""
        return self.chunk_rows

    def spare(self, block: int, piece: int, rows: int) -> pa.RecordBatch:
        """Piece of the spare stream of a block."""
        return self.model.draw(chunk_seed(self.seed, f"{self.name} again {block}", piece), 0, rows)


class ConstrainedSource(Source):
    """Rows of a model that was fitted under constraints, in the schema of the table."""

    def __init__(
        self, source: NativeSource | StockSource, table: TableConstraints, conditions: Conditions | None = None
    ) -> None:
        self.schema: pa.Schema = table.schema
        self.dictionary_columns = source.dictionary_columns
        self.device, self.model, self.inner, self.table = source.device, source.model, source, table
        self._reported = (0, 0)
        self._conditions = conditions is not None
        row_test = None
        if conditions is not None and isinstance(source, NativeSource):
            model_conditions, row_test = split_conditions(conditions, table, source.model)
            if model_conditions is not None:
                source.conditions = source.model.prepare(model_conditions)
        generators = source.model.generators
        self._rows = ConstrainedRows(
            table,
            lambda rows: _joined(source.batches(rows), source.schema),
            source.spare,
            block=source.block,
            piece=piece_rows(generators, tested=row_test is not None),
            by_number=frozenset(generators),
            test=row_test,
        )

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        return self._rows.batches(rows)

    def acceptance(self) -> dict[str, int]:
        """Rows drawn and kept since the last call; under conditions, the proposals and those accepted as well."""
        drawn, kept = self._rows.proposed - self._reported[0], self._rows.accepted - self._reported[1]
        self._reported = (self._rows.proposed, self._rows.accepted)
        counts = {"drawn": drawn, "kept": kept}
        if self._conditions:
            inner = self.inner.acceptance() or {"proposals": 0, "accepted": 0}
            counts.update(proposals=drawn + inner["proposals"] - inner["accepted"], accepted=kept)
        return counts


def _joined(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """The batches as one batch."""
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    table = pa.Table.from_batches(parts, schema).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


class QuotaSource(Source):
    """Rows of a native model, each under its block's condition.

    Args:
        model: The model.
        seed: The job's.
        blocks: From ``blocks_of``.
        batch_rows: Rows to draw at once.
        under: The constraints that the model was fitted under.

    Raises:
        ConditionError: The model cannot meet a condition; the message names the nearest one that it can.
    """

    def __init__(
        self,
        model: NativeModel,
        seed: int,
        blocks: Sequence[Block],
        batch_rows: int,
        under: TableConstraints | None = None,
    ) -> None:
        self.device, self.blocks, self._batch_rows = model.device, blocks, batch_rows
        self.schema: pa.Schema = model.schema if under is None else under.schema
        self.dictionary_columns = model.dictionary_columns
        self._sources: list[NativeSource | ConstrainedSource] = []
        for block in blocks:
            if under is None:
                prepared = None if block.where is None else model.prepare(block.where)
                self._sources.append(NativeSource(model, seed, prepared))
            else:
                self._sources.append(ConstrainedSource(NativeSource(model, seed), under, block.where))

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        for block, source in zip(self.blocks, self._sources):
            start, stop = max(rows.start, block.rows.start), min(rows.stop, block.rows.stop)
            for first in range(start, stop, self._batch_rows):
                yield from source.batches(range(first, min(first + self._batch_rows, stop)))

    def acceptance(self) -> dict[str, Any]:
        """Proposals made and accepted since the last call: of all blocks together, and by block."""
        counts = [source.acceptance() or {} for source in self._sources]
        keys = ("proposals", "accepted", "drawn", "kept")
        total = {key: sum(count.get(key, 0) for count in counts) for key in keys}
        return {**total, "blocks": [[count.get("proposals", 0), count.get("accepted", 0)] for count in counts]}


def open_run_source(artifacts: Artifacts, model: str) -> Source:
    """Open a fitted model of a run as a source of the run's rows, under the conditions of its job.

    Raises:
        ConditionError: The model cannot meet a condition.
    """
    plan, folder = artifacts.plan, artifacts.run.model(model)
    gpu, blocks = samples_on_gpu(plan.job, model), blocks_of(artifacts)
    if blocks:
        return QuotaSource(open_native(folder, gpu=gpu), plan.job.seed, blocks, BATCH_ROWS, read_card(folder))
    return open_source(folder, seed=plan.job.seed, name=model, chunk_rows=plan.chunk_rows, gpu=gpu)


def model_card(folder: Path) -> dict[str, Any]:
    """The contents of a model folder's ``model.json`` and, where there is one, ``run.json``.

    Raises:
        ModelError: There is no readable ``model.json``.
    """
    try:
        card = read_model_json(folder / "model.json")
        run = read_model_json(folder / "run.json") if (folder / "run.json").exists() else {}
    except OSError:
        raise ModelError(
            f"{folder}: no model here (no readable model.json); name a folder such as runs/mine/models/tvae"
        ) from None
    parsed(ProvenanceCard, folder / "run.json", run)
    return {**card, **run}


def samples_on_gpu(job: Job, model: str) -> bool:
    """Whether the job asks for GPUs for a model's sampling. Not whether there is one: that must not change the rows."""
    resources_of_job = [job.cluster.stages.get("sample"), job.cluster.models.get(model, {}).get("sample")]
    return any(resources is not None and resources.gpus for resources in resources_of_job)


def open_source(
    folder: Path,
    *,
    seed: int,
    name: str,
    chunk_rows: int,
    trust_pickle: bool = False,
    where: Any = None,
    gpu: bool = False,
    sampling: Mapping[str, Any] | None = None,
) -> NativeSource | StockSource | ConstrainedSource:
    """Open a model folder as a source of rows.

    Args:
        folder: The model's.
        seed: Of the endless table that the rows are taken from.
        name: Part of the key of a stock model's seeds.
        chunk_rows: Rows of a stock model that share one seed.
        trust_pickle: Load a pickle even if this user did not sign it.
        where: Conditions.
        gpu: Make the rows on a GPU if there is one and the model can use it.
        sampling: ``temperature``, ``top_p``, ``balance`` in place of those of an autoregressive model.

    Raises:
        JobError: A number of ``sampling`` is out of range.
        ModelError: The folder holds no model or a pickle that this user did not sign, or the model has no option of
            ``sampling``.
        ConditionError: The model cannot meet a condition.
    """
    card = model_card(folder)
    table = read_card(folder, trust=trust_pickle)
    if card.get("engine") == "sdv":
        from shardsynth.models.sdv.synthesizers import StockModel

        pickle = (folder / card["pickle"]).resolve()
        signed = None if trust_pickle else signed_sha256(private_of(folder), pickle)
        stock = StockSource(StockModel.load(pickle, signed, trust_pickle), seed, name, chunk_rows)
        return stock if table is None else ConstrainedSource(stock, table)
    model = open_native(folder, gpu=gpu)
    if sampling:
        model = model.with_sampling(**sampling)
    conditions = None
    if where is not None and where != {}:
        conditions = parse_conditions(where)
    if table is not None:
        return ConstrainedSource(NativeSource(model, seed), table, conditions)
    return NativeSource(model, seed, None if conditions is None else model.prepare(conditions))


def open_native(folder: Path, *, gpu: bool = False) -> NativeModel:
    """Load the native model in a folder.

    Args:
        folder: The model's.
        gpu: Make its rows on a GPU if there is one and the model can use it.

    Raises:
        ModelError: The folder holds no native model.
    """
    model = load_native(folder, str(model_card(folder).get("family")))
    return model.on_device("auto") if gpu else model


def private_of(folder: Path) -> Path:
    """The ``private/`` of the run that a model folder belongs to."""
    return folder.resolve().parents[1] / "private"


def open_distributions(folder: Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """By column, the learned marginal ``{"distribution": name, "learned_parameters": {...}}``.

    Raises:
        ModelError: The folder holds no model, or a pickle that this user did not sign.
    """
    card = model_card(folder)
    if card.get("engine") == "sdv":
        from shardsynth.models.sdv.synthesizers import StockModel

        pickle = (folder / card["pickle"]).resolve()
        signed = None if trust_pickle else signed_sha256(private_of(folder), pickle)
        return StockModel.load(pickle, signed, trust_pickle).learned_distributions()
    return open_native(folder).learned_distributions
